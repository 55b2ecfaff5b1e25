/**
 * What the page shows beside each story: which records, and which rows of whose tables. Everything is
 * read with the visitor's own eyes, so a customer's rows are those of that customer; what other
 * companies keep is shown whole, as nothing in it says whose it is.
 */
import type { User } from '../auth/users.js';
import { SHOP_ADDRESS } from '../mail/outbox.js';

/** How a value is to be read. Money is in cents, times are ISO 8601. */
export type Kind = 'id' | 'text' | 'count' | 'money' | 'time' | 'state';

export interface TableView {
  /** As Postgres has it. */
  readonly table: string;
  readonly title: string;
  /** Whose it is: the shop's own, or somebody else's, where an effect can't be rolled back. */
  readonly owner: 'shop' | 'outside';
  /** In the order in which they are shown, by the name that they have in `select`. */
  readonly columns: Readonly<Record<string, Kind>>;
  /** Selects a text `id`, which tells rows apart, and the columns; the newest first. */
  readonly select: string;
  /** What `$1` is. */
  readonly of?: (user: User) => string;
}

export interface StoryView {
  /**
   * A condition for its records beside those of the visitor's own keys, where `$1` is the visitor's
   * scope and `$2` their id.
   */
  readonly records?: string;
  readonly tables: readonly TableView[];
}

const byId = ({ id }: User): string => id;
const byEmail = ({ email }: User): string => email;
const forTheShop = (): string => SHOP_ADDRESS;

const orders: TableView = {
  table: 'orders',
  title: 'Orders',
  owner: 'shop',
  columns: { item: 'text', quantity: 'count', at: 'time' },
  select: 'select id::text, item, quantity, created_at as at from orders where user_id = $1 order by created_at desc',
  of: byId,
};

const payments: TableView = {
  table: 'payments',
  title: 'Payments',
  owner: 'shop',
  columns: { description: 'text', amount: 'money', state: 'state', at: 'time' },
  select: `select id::text, description, amount, state, created_at as at from payments where user_id = $1 order by created_at desc`,
  of: byId,
};

const ledger: TableView = {
  table: 'ledger_entries',
  title: 'Ledger',
  owner: 'shop',
  columns: { debit: 'text', credit: 'text', amount: 'money', at: 'time' },
  select: `
    select entry.id::text, debit, credit, entry.amount, entry.created_at as at
      from ledger_entries entry join payments on payments.id = payment_id
     where user_id = $1 order by entry.created_at desc`,
  of: byId,
};

const providerBook: TableView = {
  table: 'provider_charges',
  title: "The payment provider's book",
  owner: 'outside',
  columns: { description: 'text', amount: 'money', outcome: 'state', at: 'time' },
  select: 'select id::text, description, amount, outcome, called_at as at from provider_charges order by called_at desc',
};

const mailbox = (title: string, of: (user: User) => string): TableView => ({
  table: 'received_mails',
  title,
  owner: 'outside',
  columns: { subject: 'text', at: 'time' },
  select: `
    select id::text, substring(source from '(?in)^subject: (.*?)\\r?$') as subject, received_at as at
      from received_mails where recipient = $1 order by received_at desc`,
  of,
});

const outbox = (of: (user: User) => string): TableView => ({
  table: 'pending_mails',
  title: 'Mails still to be sent',
  owner: 'shop',
  columns: { subject: 'text', at: 'time' },
  select: 'select about::text as id, subject, created_at as at from pending_mails where recipient = $1 order by created_at desc',
  of,
});

const profile: TableView = {
  table: 'profiles',
  title: 'Profile',
  owner: 'shop',
  columns: { name: 'text', address: 'text', version: 'count' },
  select: 'select user_id as id, name, address, version from profiles where user_id = $1',
  of: byId,
};

const accounts: TableView = {
  table: 'accounts',
  title: 'Accounts',
  owner: 'shop',
  columns: { account: 'text', balance: 'money' },
  select: 'select id, id as account, balance from accounts where user_id = $1 order by id',
  of: byId,
};

const transfers: TableView = {
  table: 'transfers',
  title: 'Transfers',
  owner: 'shop',
  columns: { from: 'text', to: 'text', amount: 'money', at: 'time' },
  select: `
    select transaction_id::text as id, from_account as "from", to_account as "to", amount, created_at as at
      from transfers where user_id = $1 order by created_at desc`,
  of: byId,
};

const stock: TableView = {
  table: 'stock',
  title: 'Stock',
  owner: 'shop',
  columns: { item: 'text', available: 'count' },
  select: 'select item as id, item, available from stock order by item',
};

const reservations: TableView = {
  table: 'reservations',
  title: 'Reservations',
  owner: 'shop',
  columns: { item: 'text', quantity: 'count', state: 'state', expires: 'time' },
  select: `
    select reference::text as id, item, quantity, state, expires_at as expires
      from reservations where user_id = $1 order by created_at desc`,
  of: byId,
};

const messages: TableView = {
  table: 'contact_messages',
  title: 'Messages to the shop',
  owner: 'shop',
  columns: { message: 'text', at: 'time' },
  select: 'select id::text, message, created_at as at from contact_messages where email = $1 order by created_at desc',
  of: byEmail,
};

/** Rows that came with one transaction have one time. */
const products: TableView = {
  table: 'products',
  title: 'Products, by batch',
  owner: 'shop',
  columns: { first: 'text', last: 'text', rows: 'count', at: 'time' },
  select: `
    select created_at::text as id, min(sku) as first, max(sku) as last, count(*)::int as rows, created_at as at
      from products where user_id = $1 group by created_at order by created_at desc`,
  of: byId,
};

const inquiries: TableView = {
  table: 'supplier_inquiries',
  title: "The supplier's book",
  owner: 'outside',
  columns: { first: 'text', rows: 'count', outcome: 'state', at: 'time' },
  select: `
    select id::text, skus[1] as first, cardinality(skus) as rows, outcome, asked_at as at
      from supplier_inquiries order by asked_at desc`,
};

export const STORY_VIEWS = {
  payments: { tables: [providerBook, payments, orders, ledger] },
  orders: { tables: [orders] },
  profile: { tables: [profile] },
  accounts: { tables: [accounts, transfers] },
  reservations: { records: `scope = $1 and operation like 'POST /reservations/%'`, tables: [stock, reservations] },
  webhooks: {
    records: `operation = 'POST /webhooks/payments' and right(key, 36) in (select charge_id::text from payments where user_id = $2)`,
    tables: [payments, ledger],
  },
  mail: {
    records: `operation = 'mail' and key in (select id::text from orders where user_id = $2)`,
    tables: [payments, mailbox("The customer's mailbox", byEmail), outbox(byEmail)],
  },
  contact: {
    records: `scope = '' and operation = 'deduplicate POST /contact'`,
    tables: [messages, mailbox("The shop's mailbox", forTheShop), outbox(forTheShop)],
  },
  imports: { tables: [products, inquiries] },
} as const satisfies Readonly<Record<string, StoryView>>;

export type StoryName = keyof typeof STORY_VIEWS;

export const STORY_NAMES = Object.keys(STORY_VIEWS) as readonly StoryName[];
