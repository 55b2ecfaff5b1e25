/** The texts of `--help` that are more than a line. */

const EXAMPLE = (lines: readonly string[]): string =>
  `Examples:\n${lines.map((line) => (line.startsWith('#') ? `  ${line}` : `  $ npx nestjs-idempotency-pg ${line}`)).join('\n')}`;

export const EXAMPLES = {
  migrate: EXAMPLE(['migrate', 'migrate --schema app', 'migrate --dry-run']),
  status: EXAMPLE(['status', '# In a deploy, before the new version starts:', 'status --json || exit 1']),
  stats: EXAMPLE(['stats', 'stats --json | jq .lost']),
  show: EXAMPLE([
    'show id=42 8e03978e-40d5-43dd-bc93-6894a57f9324',
    '# A key that everybody shares, and its answer:',
    "show '' 8e03978e-40d5-43dd-bc93-6894a57f9324 --body",
    '# Keys of run(), of a named operation, or of a route with keyFrom:',
    "show '' invoice-7 --operation invoice-mail",
    'show id=42 7 --operation "POST /payments/:id/capture"',
    'show --lost',
  ]),
  forget: EXAMPLE([
    'forget id=42 8e03978e-40d5-43dd-bc93-6894a57f9324',
    "forget '' invoice-7 --operation invoice-mail --yes",
    "# A caller's right to be forgotten:",
    'forget id=42 --all',
  ]),
  resolve: EXAMPLE([
    '# The payment provider says that nothing was charged:',
    'resolve id=42 8e03978e-40d5-43dd-bc93-6894a57f9324 --free',
    '# It was charged, and this is what the client should have been told:',
    `resolve id=42 8e03978e-40d5-43dd-bc93-6894a57f9324 --answer answer.json --ttl 7d`,
    '# answer.json: { "status": 201, "headers": { "location": "/payments/7" }, "body": { "payment": 7 } }',
  ]),
  reap: EXAMPLE(['reap', 'reap --batch 5000 --json']),
  sql: EXAMPLE([
    'sql --schema app > V7__idempotency.sql',
    'sql 0002',
    'sql --down',
    'sql | psql "$DATABASE_URL" --single-transaction -v ON_ERROR_STOP=1',
  ]),
} as const;

export const PLACE_AND_MEANING = {
  scope: "whose key: what the scope function returned; by default id=42, sub=42 or userId=42; '' for the space that all share",
  key: 'the key as the client sent it, without quotes',
  operation: "which space of keys: left out for keys from a header; the operation of run(), or 'POST /payments/:id/capture'",
} as const;

export const EXIT_CODES = `Exit codes:
  0    done
  1    failed: Postgres can't be reached, or refused
  2    the command is not written as it should be, or names no database
  3    there is no such record (show, forget, resolve)
  4    refused: the execution is running, or has an answer already (forget, resolve)
  5    tables are missing or outdated: run migrate
  130  interrupted

Every command has a --help of its own, with examples.`;
