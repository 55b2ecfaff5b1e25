/** Where OpenTelemetry isn't installed, the library works, and says what its telemetry lacks. */
async function main(): Promise<void> {
  const library = await import('nestjs-idempotency-pg');
  const missing = await import('nestjs-idempotency-pg/telemetry').then(
    () => 'nothing',
    (error: unknown) => String(error),
  );
  console.log(JSON.stringify({ module: typeof library.IdempotencyModule, missing }));
}

void main();
