import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Orders may have a reference, payments have a state, customers a profile, and a mail can be about more than an order. */
export class AddProfilesAndContact1770000200000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table orders
        add column reference text,
        add constraint orders_reference_of_customer unique (user_id, reference);
      alter table payments add column state text not null default 'paid' check (state in ('paid', 'settled', 'refunded'));
      update payments set state = 'settled'
        where id in (select payment_id from ledger_entries where debit = 'bank');
      create table profiles (
        user_id text primary key,
        name text not null,
        address text not null,
        version integer not null
      );
      insert into profiles (user_id, name, address, version)
        values ('alice', 'Alice', '', 1), ('bob', 'Bob', '', 1), ('carol', 'Carol', '', 1);
      create table contact_messages (
        id uuid primary key default gen_random_uuid(),
        email text not null,
        message text not null,
        created_at timestamptz not null default now()
      );
      alter table pending_mails drop constraint pending_mails_order_id_fkey;
      alter table pending_mails rename column order_id to about;
      alter table pending_mails add column subject text, add column text text, add column reply_to text;
      update pending_mails set subject = 'Your order ' || about, text = 'It is paid, and on its way.';
      alter table pending_mails alter column subject set not null, alter column text set not null;
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      delete from pending_mails where about not in (select id from orders);
      alter table pending_mails drop column subject, drop column text, drop column reply_to;
      alter table pending_mails rename column about to order_id;
      alter table pending_mails add foreign key (order_id) references orders;
      drop table contact_messages, profiles;
      alter table payments drop column state;
      alter table orders drop column reference;
    `);
  }
}
