/** Profiles with versions, which the specs of the recipes edit. */
import { afterAll, beforeAll } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { Column, Entity, PrimaryColumn, VersionColumn } from 'typeorm';
import type { DataSource } from 'typeorm';
import type { Bench } from './bench.js';
import { connect } from './desk.js';

@Entity('profiles')
export class Profile {
  @PrimaryColumn('uuid')
  id!: string;

  @Column({ name: 'full_name', type: 'text' })
  name!: string;

  @VersionColumn({ name: 'revision' })
  version!: number;
}

export interface Profiles {
  dataSource(): DataSource;
  /** A new one of version 1, by Ada. */
  make(): Promise<string>;
  read(id: string): Promise<Profile>;
}

/** Their table on the bench's database, and a DataSource for it. */
export function profiles(bench: Bench): Profiles {
  let dataSource: DataSource;
  beforeAll(async () => {
    const { pool, url } = bench.database();
    await pool.query('create table profiles (id uuid primary key, full_name text not null, revision int not null)');
    dataSource = await connect(url, { entities: [Profile], poolSize: 15 });
  });
  afterAll(() => dataSource.destroy());
  return {
    dataSource: () => dataSource,
    async make() {
      const id = randomUUID();
      await dataSource.manager.insert(Profile, { id, name: 'Ada' });
      return id;
    },
    read: (id) => dataSource.manager.findOneByOrFail(Profile, { id }),
  };
}
