/** The handlers alone. */
import { serveShop } from './application.js';

await serveShop();
