/** The story, act by act. */
import type { Act } from './acts/act.js';
import { crashAfterCharge, crashInTheMiddle, restartBetween } from './acts/crashes.js';
import { mailOnce, webhookTwice } from './acts/messages.js';
import { declinedCard, doubleClick, lostAnswer, missingKey, otherBody, providerDown } from './acts/requests.js';

export const acts: readonly Act[] = [
  lostAnswer,
  doubleClick,
  otherBody,
  missingKey,
  declinedCard,
  providerDown,
  crashInTheMiddle,
  crashAfterCharge,
  restartBetween,
  webhookTwice,
  mailOnce,
];
