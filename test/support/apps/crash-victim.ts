/** The shop of crash-shop.ts in a process of its own, to be killed. Where its requests stand, and what they have passed, is printed. */
import { makeStatementsPoints } from './crash-points.js';
import { startCrashShop } from './crash-shop.js';

const { DATABASE_URL = '', PROVIDER_URL = '', CONNECTIONS } = process.env;

makeStatementsPoints();
const { url } = await startCrashShop({
  name: `victim ${process.pid}`,
  databaseUrl: DATABASE_URL,
  providerUrl: PROVIDER_URL,
  connections: Number(CONNECTIONS),
  sharedStatements: false,
  storeTimeout: '60s',
  stops: {
    standsAt: ({ journey, point }) => console.log(`${journey} stands at: ${point}`),
    arrived: (journey, points) => console.log(`${journey} passed: ${JSON.stringify(points)}`),
  },
});
console.log(`listening on ${url}`);
