import { postgres } from './global-setup.mjs';

export default async function stop() {
  await postgres?.stop();
}
