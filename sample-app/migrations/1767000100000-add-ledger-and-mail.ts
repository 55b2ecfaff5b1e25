import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Every payment pays for an order from now on; the earlier ones get one too. */
export class AddLedgerAndMail1767000100000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table payments add column order_id uuid;
      update payments set order_id = gen_random_uuid();
      insert into orders (id, user_id, item, quantity, created_at)
        select order_id, user_id, description, 1, created_at from payments;
      alter table payments
        alter column order_id set not null,
        add constraint payments_order unique (order_id),
        add constraint payments_order_exists foreign key (order_id) references orders;
      create table ledger_entries (
        id uuid primary key default gen_random_uuid(),
        payment_id uuid not null references payments,
        debit text not null,
        credit text not null,
        amount integer not null check (amount > 0),
        created_at timestamptz not null default now(),
        check (debit <> credit)
      );
      create index ledger_entries_of_payment on ledger_entries (payment_id);
      create table pending_mails (
        order_id uuid primary key references orders,
        recipient text not null,
        created_at timestamptz not null default now()
      );
      create table received_mails (
        id uuid primary key default gen_random_uuid(),
        recipient text not null,
        source text not null,
        received_at timestamptz not null default now()
      );
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop table received_mails, pending_mails, ledger_entries; alter table payments drop column order_id');
  }
}
