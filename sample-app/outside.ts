/**
 * The name of a second DataSource, for what belongs to other companies: the payment provider's book
 * and the customers' mailboxes. They live in the shop's database only so that nothing needs to be set
 * up. Connections of their own keep them out of the shop's transactions, and out of its pool: there a
 * payment that waits for the provider holds a connection, and the provider must not wait for one of those.
 */
export const OUTSIDE = 'outside';
