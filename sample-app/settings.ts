/** What can be set from outside, read once. */
export interface ShopSettings {
  readonly databaseUrl: string;
  /** How long the payment provider takes for a new charge. */
  readonly providerDelayMs: number;
  /** After a crash a key waits this long until a retry may take over. */
  readonly lockTtl: string;
}

export function readSettings(env: NodeJS.ProcessEnv, databaseUrl: string): ShopSettings {
  return {
    databaseUrl,
    providerDelayMs: Number(env['PROVIDER_DELAY_MS'] ?? 300),
    lockTtl: env['LOCK_TTL'] ?? '60s',
  };
}

export function readPort(env: NodeJS.ProcessEnv): number {
  const port = Number(env['PORT'] ?? 3000);
  if (!Number.isInteger(port) || port < 0 || port > 65535)
    throw new Error(`PORT is ${env['PORT']}. Give a number up to 65535, or leave it out.`);
  return port;
}
