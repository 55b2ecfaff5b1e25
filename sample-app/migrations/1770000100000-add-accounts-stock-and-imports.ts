import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The customers' accounts, with a little money to move; the stock, with a few things to reserve; and what is imported. */
export class AddAccountsStockAndImports1770000100000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table accounts (
        id text primary key,
        user_id text not null,
        balance integer not null check (balance >= 0)
      );
      insert into accounts (id, user_id, balance) values
        ('alice-current', 'alice', 100000), ('alice-savings', 'alice', 100000),
        ('bob-current', 'bob', 100000), ('carol-current', 'carol', 100000);
      create table transfers (
        transaction_id uuid primary key,
        user_id text not null,
        from_account text not null references accounts,
        to_account text not null references accounts,
        amount integer not null check (amount > 0),
        created_at timestamptz not null default now(),
        check (from_account <> to_account)
      );
      create table stock (
        item text primary key,
        available integer not null check (available >= 0)
      );
      insert into stock (item, available) values ('A chair', 40), ('A table', 10), ('A violin', 1);
      create table reservations (
        reference uuid primary key default gen_random_uuid(),
        user_id text not null,
        item text not null references stock,
        quantity integer not null check (quantity > 0),
        state text not null default 'reserved' check (state in ('reserved', 'committed', 'cancelled', 'expired')),
        expires_at timestamptz not null,
        created_at timestamptz not null default now()
      );
      create index reservations_to_expire on reservations (item, expires_at) where state = 'reserved';
      create table products (
        id uuid primary key default gen_random_uuid(),
        user_id text not null,
        sku text not null,
        name text not null,
        price integer not null,
        created_at timestamptz not null default now()
      );
      create table supplier_inquiries (
        id uuid primary key default gen_random_uuid(),
        idempotency_key text not null,
        skus text[] not null,
        outcome text not null,
        asked_at timestamptz not null default now()
      );
      create unique index supplier_inquiries_one_per_key on supplier_inquiries (idempotency_key) where outcome = 'quoted';
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop table supplier_inquiries, products, reservations, stock, transfers, accounts');
  }
}
