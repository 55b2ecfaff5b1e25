/** Looks into the database for the page, as it is at this moment. It only reads. */
import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import type { DataSource } from 'typeorm';
import type { User } from '../auth/users.js';
import { STORY_VIEWS } from './story-views.js';
import type { Kind, StoryName, StoryView, TableView } from './story-views.js';

export interface PageState {
  readonly records: readonly RecordRow[];
  readonly tables: readonly TableRows[];
}

/** A record without its answer: the visitor has that already. Times are ISO 8601. */
export interface RecordRow {
  readonly id: string;
  readonly state: 'running' | 'lost' | 'completed' | 'sealed' | 'open';
  readonly operation: string;
  readonly key: string;
  readonly attempt: number;
  readonly status: number | null;
  readonly lockedUntil: string | null;
  readonly expiresAt: string | null;
  readonly steps: readonly StepRow[];
}

export interface StepRow {
  readonly name: string;
  /** JSON, shortened. */
  readonly result: string;
}

export interface TableRows extends Pick<TableView, 'table' | 'title' | 'owner'> {
  readonly columns: Readonly<Record<string, Kind>>;
  readonly rows: readonly Readonly<Record<string, unknown>>[];
}

/** As many as a visitor makes by hand. */
const MOST_ROWS = 30;

/** Of a step's result: enough for one with an id in it. */
const MOST_CHARACTERS = 72;

@Injectable()
export class PageStateReader {
  constructor(@InjectDataSource() private readonly dataSource: DataSource) {}

  /** @param keys those the visitor has sent; among a customer's keys nothing else says which story one belongs to */
  async read(story: StoryName, user: User, keys: readonly string[]): Promise<PageState> {
    const view: StoryView = STORY_VIEWS[story];
    const [records, tables] = await Promise.all([
      this.recordsOf(user, keys, view.records),
      Promise.all(view.tables.map((table) => this.rowsOf(table, user))),
    ]);
    return { records, tables };
  }

  private async rowsOf({ table, title, owner, columns, select, of }: TableView, user: User): Promise<TableRows> {
    const rows = await this.dataSource.query<Record<string, unknown>[]>(`${select} limit ${MOST_ROWS}`, of ? [of(user)] : []);
    return { table, title, owner, columns, rows };
  }

  private recordsOf({ id }: User, keys: readonly string[], others = 'false'): Promise<RecordRow[]> {
    return this.dataSource.query<RecordRow[]>(
      `select record.id::text,
              case record.state
                when 0 then case when locked_until < statement_timestamp() then 'lost' else 'running' end
                when 1 then 'completed' when 2 then 'sealed' else 'open' end as state,
              operation, key, attempt, status, locked_until as "lockedUntil", expires_at as "expiresAt",
              (select coalesce(json_agg(json_build_object('name', name, 'result', shown) order by position), '[]')
                 from idempotency_steps step
                cross join lateral convert_from(result, 'UTF8') as text
                cross join lateral (select case when length(text) > $4 then left(text, $4) || '…' else text end) as short(shown)
                where step.id = record.id and life = record.created_at) as steps
         from idempotency_records record
        where $2::text is not null
          and (scope = $1 and operation = '' and key = any($3) or ${others})
          and (expires_at is null or expires_at > statement_timestamp())
        order by record.created_at desc
        limit ${MOST_ROWS}`,
      [`id=${id}`, id, keys, MOST_CHARACTERS],
    );
  }
}
