import type { MigrationInterface, QueryRunner } from 'typeorm';

export class CreateShopTables1764000100000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table orders (
        id uuid primary key default gen_random_uuid(),
        user_id text not null,
        item text not null,
        quantity integer not null,
        created_at timestamptz not null default now()
      );
      create table payments (
        id uuid primary key default gen_random_uuid(),
        user_id text not null,
        amount integer not null,
        description text not null,
        charge_id uuid not null unique,
        created_at timestamptz not null default now()
      );
      create table provider_charges (
        id uuid primary key default gen_random_uuid(),
        idempotency_key text not null,
        card text not null,
        amount integer not null,
        description text not null,
        outcome text not null,
        called_at timestamptz not null default now()
      );
      create unique index provider_charges_one_per_key on provider_charges (idempotency_key) where outcome = 'charged';
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop table provider_charges, payments, orders');
  }
}
