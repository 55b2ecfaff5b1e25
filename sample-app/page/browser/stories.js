/** All stories, in the order in which they are told. */
import { accounts } from './stories/accounts.js';
import { contact } from './stories/contact.js';
import { imports } from './stories/imports.js';
import { mail } from './stories/mail.js';
import { orders } from './stories/orders.js';
import { payments } from './stories/payments.js';
import { profile } from './stories/profile.js';
import { reservations } from './stories/reservations.js';
import { webhooks } from './stories/webhooks.js';

/** @import { Story } from './types.js' */

/** @type {readonly Story[]} */
export const stories = [payments, orders, profile, accounts, reservations, webhooks, mail, contact, imports];
