/** The shop of crash-shop.ts for many requests at once, which share their statements. It dies at the point that it is given. */
import { FatalPoints } from '../fatal-points.js';
import { startCrashShop } from './crash-shop.js';

const { DATABASE_URL = '', PROVIDER_URL = '', FATAL_POINT } = process.env;

const points = new FatalPoints(FATAL_POINT);
points.watchStatements();
const { url } = await startCrashShop({
  name: `crowded shop ${process.pid}`,
  databaseUrl: DATABASE_URL,
  providerUrl: PROVIDER_URL,
  connections: 10,
  sharedStatements: true,
  storeTimeout: '60s',
  stops: { standsAt: () => undefined, arrived: () => undefined },
});
points.arm();
console.log(`listening on ${url}`);
