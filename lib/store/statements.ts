/**
 * All SQL but the tables' own, in the order of a record's life. Postgres is the referee: one statement decides
 * a race, and its clock decides time (`statement_timestamp()`, since `now()` is the start of the
 * transaction). Durations come in as milliseconds.
 *
 * Every statement may be sent twice, which is what happens when a connection breaks before its
 * answer came: a read changes nothing, and a write names the owner or the state that it expects, so
 * that the second sending finds nothing left to do or recognises its own owner token.
 *
 * Every statement of a request's path has `id` in its WHERE, so that the table can be sharded by it.
 * Bytes are read as base64: pg 8 decodes its binary format as UTF-8, so that most bytes above 0x7f are
 * lost, and hex is half as long again and takes Node twice the time.
 */
import type { IsolationLevel } from '../contract/transaction.js';
import { Columns } from './columns.js';
import type {
  ClaimRow,
  ConnectionsRow,
  ExpiredRow,
  KeyRow,
  LapsedRow,
  LimitedClaimRow,
  PageRow,
  RecordRow,
  RemovedRow,
  SharedClaimRow,
  StatsRow,
  StepRow,
  SummaryRow,
} from './rows.js';
import type { Statement } from './session.js';
import { channelOf, type Tables } from './table-name.js';
import type { ShapeRow } from './table-shape.js';

/** How `state` is written. *Lost* is nothing that anybody writes: it is a running record whose lease has passed. */
const RUNNING = 0;
const COMPLETED = 1;
const SEALED = 2;
const OPEN = 3;

/** In which state a step may still be recorded, an answer be given or a key be released: by its owner, and while it runs. */
const OWNED = `record.id = $1::uuid and record.owner = $2::uuid and record.state = ${RUNNING}`;
const LAPSED = `state = ${RUNNING} and locked_until <= statement_timestamp()`;

const interval = (parameter: string): string => `${parameter}::float8 * interval '1 millisecond'`;
const milliseconds = (instant: string): string => `(extract(epoch from ${instant}) * 1000)::float8`;

/** Floating, and so without the decimal arithmetic above, which costs a replay as much as finding its row; but an instant would lose its last digit. */
const millisecondsTo = (instant: string): string => `date_part('epoch', ${instant} - statement_timestamp()) * 1000`;

/**
 * Of a record whose lease has passed: whether no transaction holds its row. One that does is alive
 * whatever its lease says, for the lock is its lease. Looking takes the weakest lock there is, for
 * the length of the statement: it stands in nobody's way but a deletion's. Records whose lease is
 * good are not touched, since nobody asks for this then.
 */
const free = (records: string): string => `
      free as (${freeRow(records, '$1::uuid')})`;

const freeRow = (records: string, id: string): string => `
        select id
          from ${records}
         where id = ${id} and ${LAPSED}
           for key share skip locked`;

const standing = (isFree: string): string => `
  case state
    when ${RUNNING} then case when locked_until <= statement_timestamp() and ${isFree} then 'lost' else 'running' end
    when ${COMPLETED} then 'completed'
    when ${SEALED} then 'sealed'
    when ${OPEN} then 'open'
  end as standing,
  coalesce(expires_at <= statement_timestamp(), false) as expired`;
const STANDING_KINDS = { standing: 'text', expired: 'boolean' } as const;

/** A record as a claim meets it. */
const recordStanding = (isFree: string): string => `${standing(isFree)},
  owner::text, attempt, status,
  ${millisecondsTo('locked_until')} as lease_left_ms,
  ${millisecondsTo('coalesce(expires_at, reap_after)')} as retention_left_ms,
  encode(fingerprint, 'base64') as fingerprint,
  encode(headers, 'base64') as headers,
  encode(body, 'base64') as body`;
const RECORD_KINDS = {
  ...STANDING_KINDS,
  owner: 'text',
  attempt: 'number',
  status: 'number',
  lease_left_ms: 'number',
  retention_left_ms: 'number',
  fingerprint: 'text',
  headers: 'text',
  body: 'text',
} as const;

/** Both need `free`. */
const STANDING = standing('id in (select id from free)');
const RECORD = recordStanding('id in (select id from free)');

/** A row is found by a digest, and believed only when what was digested is the same too. */
const AGREES = '(scope = $2 and operation = $3 and key = $4) as agrees';

const CLAIM_KINDS = { claimed: 'boolean', ...RECORD_KINDS, agrees: 'boolean' } as const;

/** Of the lock that stands for “somebody listens for this record”: 64 bits of a digest, which an application's own locks hardly ever meet. */
const listenersLock = (channel: string, id: string): string => `uuid_hash_extended(${id}, hashtextextended('${channel}', 0))`;

/** How many of these records' locks this session has given back. */
const givenBack = (channel: string, ids: string): string => `(
                    select count(pg_advisory_unlock_shared(${listenersLock(channel, 'id')}))
                      from unnest(${ids}::uuid[]) as needless (id))`;

/**
 * Always true, and asked once, for the row that was just written: tells those who listen for it, if
 * anybody does, when the transaction commits. It stands beside the write, not in its RETURNING, where
 * distributed tables allow no such functions; and it returns nothing, since every column costs.
 *
 * A notification makes the commits of the whole server queue up, so none is sent in vain. Whoever
 * listens holds the lock, shared, and while somebody does, it can't be had alone. Locks are a node's
 * own: where the row is on another one than those who listen, it can be had, and nobody is told. And a
 * queue that somebody else does not read must not fail a completion when it is full.
 */
const hint = (channel: string): string => `
             case when pg_try_advisory_xact_lock(${listenersLock(channel, 'id')}) then true
                  when pg_notification_queue_usage() < 0.5 then pg_notify('${channel}', id::text) is not null
                  else true
             end`;

/** Whether a record is at work: surely, or to be looked at. */
interface StandingOfAttended {
  readonly standing: 'running' | 'unknown' | null;
}

export type Statements = ReturnType<typeof statements>;

export const statements = ({ records, steps }: Tables, channel = channelOf(records)) =>
  ({
    /**
     * Before the first record, at boot: the tables of those names as the catalogue has them, which
     * answers at once however large they are; and how many connections there may be, -1 for any number.
     * Limits of a role and of a database don't count for superusers. Some of the server's are reserved,
     * from Postgres 16 on also for those who have that role's privileges.
     */
    inspect: {
      name: 'idempotency_inspect',
      columns: new Columns<ShapeRow & ConnectionsRow>({
        synchronous_commit: 'text',
        records: 'text',
        steps: 'text',
        backend: 'number',
        role_connections: 'number',
        database_connections: 'number',
        server_connections: 'number',
      }),
      text: `
      select current_setting('synchronous_commit') as synchronous_commit,
             ${shapeOf('$1')} as records,
             ${shapeOf('$2')} as steps,
             pg_backend_pid() as backend,
             case when role.rolsuper then -1 else role.rolconnlimit end as role_connections,
             case when role.rolsuper then -1 else datconnlimit end as database_connections,
             current_setting('max_connections')::int
               - case when role.rolsuper then 0 else current_setting('superuser_reserved_connections')::int end
               - case
                   when role.rolsuper then 0
                   when exists (select from pg_roles as reserve
                                 where reserve.rolname = 'pg_use_reserved_connections' and pg_has_role(role.oid, reserve.oid, 'usage')) then 0
                   else coalesce(current_setting('reserved_connections', true)::int, 0)
                 end as server_connections
        from pg_roles as role, pg_database
       where role.rolname = session_user and datname = current_database()`,
    },

    /** At boot, for those who limit live keys: whether the count below has an index to go by. */
    liveKeysIndex: {
      name: 'idempotency_live_keys_index',
      text: `
      select from pg_index
        join pg_attribute on attrelid = indrelid and attnum = indkey[0]
       where indrelid = to_regclass($1) and attname = 'scope' and indisvalid and indpred is null`,
    },

    /**
     * Becomes the owner of a free key, or tells what stands there, in one trip. Of simultaneous
     * inserts the primary key lets one through; the others wait for it and then insert nothing. They
     * get no row, since what they lost against is newer than their snapshot, and ask again.
     */
    claim: { name: 'idempotency_claim', columns: CLAIM_COLUMNS, text: claim(records, 'attempt') },

    /**
     * The same, but its commit does not wait for the disk. Other sessions see it at once all the
     * same. WAL is flushed in order: whoever later commits something in this database has the claim
     * on disk before it.
     */
    claimUnflushed: {
      name: 'idempotency_claim_unflushed',
      columns: CLAIM_COLUMNS,
      text: claim(records, `attempt, set_config('synchronous_commit', 'off', true)`),
    },

    /** The same for several keys at once. */
    claimShared: { name: 'idempotency_claim_shared', columns: SHARED_CLAIM_COLUMNS, text: claimShared(records, QUEUE_BRIEFLY) },
    claimSharedUnflushed: {
      name: 'idempotency_claim_shared_unflushed',
      columns: SHARED_CLAIM_COLUMNS,
      text: claimShared(records, `${QUEUE_BRIEFLY} and set_config('synchronous_commit', 'off', true) = 'off'`),
    },

    /** As a claim of one key, within a limit on the live records of its scope. */
    claimWithin: { name: 'idempotency_claim_within', columns: LIMITED_CLAIM_COLUMNS, text: claimWithin(records, 'attempt') },
    claimWithinUnflushed: {
      name: 'idempotency_claim_within_unflushed',
      columns: LIMITED_CLAIM_COLUMNS,
      text: claimWithin(records, `attempt, set_config('synchronous_commit', 'off', true)`),
    },

    /**
     * Makes a fresh claim of a record whose time is over. Several may have seen it expire: they queue
     * at the row lock, and after the first it is running, and nobody else's to take. Whoever was first
     * may hold it in a transaction by then, so nobody queues for longer than `$6`, which is an error,
     * 55P03. `reap_after` is indexed, so this is no HOT update; the reaper mostly comes before it.
     */
    takeExpired: {
      name: 'idempotency_take_expired',
      text: `
      with patience as (
        select set_config('lock_timeout', $6, true)
      ), claimed as (
        update ${records} as record
           set fingerprint = $2::bytea, owner = $3::uuid, state = ${RUNNING}, attempt = 1,
               created_at = statement_timestamp(),
               locked_until = statement_timestamp() + ${interval('$4')},
               reap_after = statement_timestamp() + ${interval('$5')},
               completed_at = null, expires_at = null, status = null, headers = null, body = null
          from patience
         where record.id = $1::uuid
           and record.state <> ${RUNNING} and record.expires_at <= statement_timestamp()
        returning record.id, record.created_at
      ), bygone as (
        delete from ${steps} as step
         using claimed
         where step.id = $1::uuid and step.id = claimed.id and step.life <> claimed.created_at
      )
      select from claimed`,
    },

    /**
     * Takes a lost or open record over from the owner it was seen under. It never waits: a row that a
     * transaction holds is passed by. Of several that come at once one gets the lock, and whoever gets
     * it later finds another owner. A late owner that completed or renewed in between has changed the
     * state or the lease, and is not disturbed. `created_at` stays, and the steps with it.
     */
    takeOver: {
      name: 'idempotency_take_over',
      columns: new Columns<Pick<RecordRow, 'attempt'>>({ attempt: 'number' }),
      text: `
      with unheld as (
        select id
          from ${records}
         where id = $1::uuid and owner = $2::uuid
           and ((${LAPSED}) or (state = ${OPEN} and expires_at > statement_timestamp()))
           for no key update skip locked
      )
      update ${records} as record
         set owner = $3::uuid, state = ${RUNNING}, attempt = record.attempt + 1,
             locked_until = statement_timestamp() + ${interval('$4')},
             completed_at = null, expires_at = null
        from unheld
       where record.id = $1::uuid and record.id = unheld.id and record.owner = $2::uuid
         and ((${LAPSED}) or (state = ${OPEN} and expires_at > statement_timestamp()))
      returning record.attempt`,
    },

    /**
     * Prolongs all leases of a process at once. Each names its owner token, so a record that somebody
     * has taken over stays theirs. A lease that has passed is prolonged too: nobody has claimed it.
     * Rows that somebody holds are passed by, or they would keep all the others waiting, and told.
     */
    renew: {
      name: 'idempotency_renew',
      columns: new Columns<{ readonly id: string; readonly renewed: boolean }>({ id: 'text', renewed: 'boolean' }),
      text: `
      with lease as materialized (
        select *
          from unnest($1::uuid[], $2::uuid[], $3::float8[]) as lease (id, owner, ms)
         limit $4::int
      ), ${owned(records, 'lease')}, renewed as (
        update ${records} as record
           set locked_until = statement_timestamp() + ${interval('owned.ms')}
          from owned
         where record.id = owned.id and record.owner = owned.owner and record.state = ${RUNNING}
        returning record.id
      )
      select id::text as id, true as renewed
        from renewed
      union all
      select lease.id::text, false
        from lease
       cross join lateral (
             select
               from ${records} as record
              where record.id = lease.id and record.owner = lease.owner and record.state = ${RUNNING}
              limit 1) as passed_by
       where lease.id not in (select id from renewed)`,
    },

    /** One that was passed by: whoever holds its row may have taken it over, or be done in a moment. Waiting longer than `$4` is an error, 55P03. */
    renewOne: {
      name: 'idempotency_renew_one',
      text: `
      with patience as (
        select set_config('lock_timeout', $4, true)
      )
      update ${records} as record
         set locked_until = statement_timestamp() + ${interval('$3')}
        from patience
       where ${OWNED}`,
    },

    /**
     * Holds the row of an execution for a transaction, in which it is sent. Nobody else's token is
     * held, and nothing that is over. Stronger than a write to the row would need: the weak lock of
     * those who only want to know whether it is held (see `free`) must not go together with it.
     */
    hold: {
      name: 'idempotency_hold',
      text: `
      ${holding(records, '')}`,
    },

    /**
     * The same at a transaction's beginning, with the limit of its idleness. No row is a division by zero (22012),
     * after which Postgres carries out nothing of what is on its way behind it.
     */
    holdOrFail: {
      name: 'idempotency_hold_or_fail',
      text: `
      with held as (
      ${holding(records, idleLimit('$3'))}
      )
      select 1 / count(*)
        from held`,
    },

    /**
     * The other part of what COMMIT would say: a serializable transaction that another one has doomed is
     * told so by its next read of a row. It is its own one, which costs nothing and meets nobody; and a
     * column that is in no index, since the index alone would not do.
     */
    meetDoom: {
      name: 'idempotency_meet_doom',
      text: `
      select owner
        from ${records}
       where id = $1::uuid`,
    },

    /** What was recorded in this life of the row, by whichever owner. */
    steps: {
      name: 'idempotency_steps',
      columns: new Columns<StepRow>({ name: 'text', result: 'text' }),
      text: `
      select step.name, encode(step.result, 'base64') as result
        from ${records} as record
        join ${steps} as step on step.id = record.id and step.life = record.created_at
       where ${OWNED}
       order by step.position, step.created_at`,
    },

    /**
     * Records a step for whoever owns the running record at this instant, which is read and not
     * locked: an open transaction may hold it. Where that name is taken in this life already, the same
     * owner has sent it before, and its result stays; anybody else's stays as well, and no row is told.
     */
    recordStep: {
      name: 'idempotency_record_step',
      text: `
      insert into ${steps} as step (id, life, owner, created_at, position, name, result)
      select record.id, record.created_at, record.owner, statement_timestamp(),
             1 + (select coalesce(max(position), 0)
                    from ${steps} as earlier
                   where earlier.id = $1::uuid and earlier.life = record.created_at),
             $3, $4::bytea
        from ${records} as record
       where ${OWNED}
          on conflict (id, life, name) do update set owner = excluded.owner where step.owner = excluded.owner`,
    },

    /**
     * Writes something that means nothing, and waits for the disk as every commit does: the claim that
     * it was read beside is then on disk too, since WAL is flushed in order. No row: a crash has
     * forgotten the claim, or somebody has taken it over.
     */
    flush: {
      name: 'idempotency_flush',
      text: `
      select pg_logical_emit_message(true, 'nestjs-idempotency-pg', '')
        from ${records} as record
       where ${OWNED}`,
    },

    /**
     * Keeps the answer. The owner token refuses everybody who was superseded, and the state refuses a
     * second answer. No indexed column changes, so the update is HOT.
     */
    complete: {
      name: 'idempotency_complete',
      text: `${completed(records)}
      select
        from completed
       where ${hint(channel)}`,
    },

    /**
     * The same where a COMMIT is on its way behind it. No row is a division by zero (22012), after which
     * Postgres does not commit.
     */
    completeOrFail: {
      name: 'idempotency_complete_or_fail',
      text: `${completed(records)}
      select 1 / count(*)
        from completed
       where ${hint(channel)}`,
    },

    /**
     * As `complete`, for several executions at once. A row that somebody holds is passed by, or it would keep the
     * others waiting, so that two processes can't wait for each other either. Whose id does not come back has to go
     * alone. The lock tells where the row is, and it stays there as long as it is locked.
     */
    completeShared: {
      name: 'idempotency_complete_shared',
      columns: new Columns<{ readonly id: string }>({ id: 'text' }),
      text: `
      with completed as (
        update ${records} as record
           set state = ${COMPLETED}, status = owned.status, headers = owned.headers, body = owned.body,
               completed_at = statement_timestamp(),
               expires_at = statement_timestamp() + ${interval('owned.retention')},
               locked_until = null
          from (select answer.*, unheld.ctid as place
                  from (select *
                          from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::bytea[], $5::bytea[], $6::float8[])
                                 as answer (id, owner, status, headers, body, retention)
                         limit $7::int) as answer
                 cross join lateral (${unheldOf(records, 'answer', 'ctid')}) as unheld) as owned
         where record.ctid = owned.place and record.id = owned.id and record.owner = owned.owner and record.state = ${RUNNING}
        returning record.id
      )
      select id
        from completed
       where ${hint(channel)}`,
    },

    /** Ends the execution without a replayable answer. Guarded as `complete` is. */
    seal: {
      name: 'idempotency_seal',
      text: `${sealed(records)}
      select
        from sealed
       where ${hint(channel)}`,
    },

    sealOrFail: {
      name: 'idempotency_seal_or_fail',
      text: `${sealed(records)}
      select 1 / count(*)
        from sealed
       where ${hint(channel)}`,
    },

    /** Who owns the key by now, for one whose write was refused. A token of one's own shows that an earlier sending got through. */
    successor: {
      name: 'idempotency_successor',
      columns: new Columns<RecordRow>(RECORD_KINDS),
      text: `
      with ${free(records)}
      select ${RECORD}
        from ${records}
       where id = $1::uuid`,
    },

    /**
     * Frees the key, or opens it where this life has steps. Both arms judge by the same snapshot, so
     * exactly one of them finds the row. The last one recognises an earlier sending that opened it.
     */
    release: {
      name: 'idempotency_release',
      columns: new Columns<{ readonly released: 'freed' | 'opened' }>({ released: 'text' }),
      text: `
      with opened as (
        update ${records} as record
           set state = ${OPEN}, locked_until = null, expires_at = statement_timestamp() + ${interval('$3')}
         where ${OWNED} and ${hasSteps(steps, '$1::uuid')}
        returning record.id, 'opened' as released
      ), freed as (
        delete from ${records} as record
         where ${OWNED} and not ${hasSteps(steps, '$1::uuid')}
        returning record.id, 'freed' as released
      )
      select released
        from opened
       where ${hint(channel)}
      union all
      select released
        from freed
       where ${hint(channel)}
      union all
      select 'opened'
        from ${records}
       where id = $1::uuid and owner = $2::uuid and state = ${OPEN}`,
    },

    /** Whether this connection is the backend that it was told it has: a pooler hands out one of its own making, and another backend with each statement. */
    isDirect: {
      name: 'idempotency_is_direct',
      text: `
      select where pg_backend_pid() = $1::int`,
    },

    listen: { name: 'idempotency_listen', text: `listen ${channel}` },

    /**
     * Asks to be told of a record's end, as long as this session lasts, and says whether it was still
     * `running` at that moment, so that nobody need look because of it. Nothing, where an owner is just about
     * to end it: that one does not tell any more. What is needed no more, `$2`, is given back before.
     *
     * The statement's snapshot is older than the lock. An end that was committed in between is neither
     * told, since nobody held the lock then, nor seen. But `xmax` is read from the row as it lies there,
     * after the lock was got (a subquery within CASE waits for its turn), and whoever has written to a row
     * has left his mark in it. Whoever has only locked it has too, as a transaction that holds it or a renewal:
     * then nobody knows without looking.
     */
    attend: {
      name: 'idempotency_attend',
      columns: new Columns<StandingOfAttended>({ standing: 'text' }),
      text: `
      select case
               when ${givenBack(channel, '$2')} < 0 then null
               when pg_try_advisory_lock_shared(${listenersLock(channel, '$1::uuid')}) then
                 case
                   when (select state = ${RUNNING} and xmax = '0'
                           from ${records}
                          where id = $1::uuid) then 'running'
                   else 'unknown'
                 end
             end as standing`,
    },

    /**
     * The same where the tables are sharded, and a statement that names one of them is carried out where its
     * row is: the lock is to be this session's own, and the row is left to a look.
     */
    attendUnseen: {
      name: 'idempotency_attend_unseen',
      columns: new Columns<StandingOfAttended>({ standing: 'text' }),
      text: `
      select case
               when ${givenBack(channel, '$2')} < 0 then null
               when pg_try_advisory_lock_shared(${listenersLock(channel, '$1::uuid')}) then 'unknown'
             end as standing`,
    },

    /** Of records that nobody listens for any more. */
    leave: {
      name: 'idempotency_leave',
      text: `
      select ${givenBack(channel, '$1')}`,
    },

    /**
     * How a transaction ended whose COMMIT was not answered. To read is not enough: its backend may
     * still be about to commit. The lock is had once that has let go of the row, and then the row
     * says how. Waiting longer than `$3` is an error, 55P03.
     */
    outcome: {
      name: 'idempotency_outcome',
      columns: new Columns<{ readonly settled: boolean }>({ settled: 'boolean' }),
      text: `
      with patience as (
        select set_config('lock_timeout', $3, true)
      )
      select record.state <> ${RUNNING} as settled
        from ${records} as record, patience
       where record.id = $1::uuid and record.owner = $2::uuid
         for no key update of record`,
    },

    /**
     * The same for a transaction that recorded a step and held no row. An insert of the same step
     * waits for whoever has made one and not ended; where it finds none in its way, there is none, and
     * the division by zero undoes it (22012). No row: the record is not this owner's any more.
     */
    outcomeOfStep: {
      name: 'idempotency_outcome_of_step',
      columns: new Columns<{ readonly settled: boolean }>({ settled: 'boolean' }),
      text: `
      with patience as (
        select set_config('lock_timeout', $3, true)
      ), owned as (
        select record.id, record.created_at, record.owner
          from ${records} as record, patience
         where ${OWNED}
      ), unrecorded as (
        insert into ${steps} (id, life, owner, created_at, position, name, result)
        select id, created_at, owner, statement_timestamp(), 0, $4, ''
          from owned
            on conflict (id, life, name) do nothing
        returning 1
      )
      select 1 / (1 - (select count(*) from unrecorded)) = 1 as settled from owned`,
    },

    /** A record for an operator's eyes: no answer, no token, no results. */
    find: {
      name: 'idempotency_find',
      columns: new Columns<SummaryRow>({
        ...STANDING_KINDS,
        attempt: 'number',
        status: 'number',
        created_at: 'number',
        completed_at: 'number',
        locked_until: 'number',
        expires_at: 'number',
        steps: 'text',
        agrees: 'boolean',
      }),
      text: `
      with ${free(records)}
      select ${STANDING}, attempt, status,
             ${milliseconds('created_at')} as created_at,
             ${milliseconds('completed_at')} as completed_at,
             ${milliseconds('locked_until')} as locked_until,
             ${milliseconds('expires_at')} as expires_at,
             (select json_agg(step.name order by step.position, step.created_at)
                from ${steps} as step
               where step.id = $1::uuid and step.life = record.created_at) as steps,
             ${AGREES}
        from ${records} as record
       where id = $1::uuid`,
    },

    /**
     * Gives a lost, open or sealed record an answer by hand. The token is a new one, so that the owner
     * that was given up for lost learns that its own answer is none.
     */
    answerByHand: {
      name: 'idempotency_answer_by_hand',
      text: `
      with ${unheld(records)}
      update ${records} as record
         set owner = $5::uuid, state = ${COMPLETED}, status = $6::smallint, headers = $7::bytea, body = $8::bytea,
             completed_at = statement_timestamp(),
             expires_at = statement_timestamp() + ${interval('$9')},
             locked_until = null
       where id = $1::uuid and scope = $2 and operation = $3 and key = $4
         and ((${LAPSED} and exists (select from unheld))
           or (state in (${SEALED}, ${OPEN}) and expires_at > statement_timestamp()))`,
    },

    /** Frees the key of a lost, open or sealed record by hand. */
    freeByHand: {
      name: 'idempotency_free_by_hand',
      text: removal(
        `
        delete from ${records}
         where id = $1::uuid and scope = $2 and operation = $3 and key = $4
           and ((${LAPSED} and exists (select from unheld))
             or (state in (${SEALED}, ${OPEN}) and expires_at > statement_timestamp()))`,
        { records, steps },
      ),
    },

    /**
     * Removes a record unless it is live. Whether it is, is decided under the row lock, not by who
     * looked before; and a row that a transaction holds is not waited for.
     */
    forget: {
      name: 'idempotency_forget',
      columns: new Columns<RemovedRow>({ expired: 'boolean' }),
      text: removal(
        `
        delete from ${records}
         where id = $1::uuid and scope = $2 and operation = $3 and key = $4
           and (state <> ${RUNNING} or (${LAPSED} and exists (select from unheld)))`,
        { records, steps },
      ),
    },

    /**
     * One page of the whole table along its primary key. There is no index on the scope: too dear for
     * what is asked so seldom. Of records that can only go one by one, the names come along.
     */
    pageOfRecords: {
      name: 'idempotency_page_of_records',
      columns: new Columns<PageRow>({ id: 'text', wanted: 'boolean', apart: 'boolean', operation: 'text', key: 'text' }),
      text: `
      select id::text as id,
             scope = $2 and (state <> ${RUNNING} or ${LAPSED}) as wanted,
             state = ${RUNNING} or ${hasSteps(steps)} as apart,
             case when scope = $2 then operation end as operation,
             case when scope = $2 then key end as key
        from ${records} as record
       where id > $1::uuid
       order by id
       limit $3::int`,
    },

    /**
     * Removes what a page has shown, with everything judged again: the page was read some time ago.
     * Records with steps, or that may be held, are left to `forget`.
     */
    forgetPage: {
      name: 'idempotency_forget_page',
      text: `
      delete from ${records} as record
       where id = any($1::uuid[]) and scope = $2
         and state <> ${RUNNING} and not ${hasSteps(steps)}`,
    },

    /** The one statement that reads the table as a whole, for an operator. */
    stats: {
      name: 'idempotency_stats',
      columns: new Columns<StatsRow>({
        running: 'number',
        lost: 'number',
        completed: 'number',
        sealed: 'number',
        open: 'number',
        expired: 'number',
        oldest_lost: 'number',
      }),
      text: `
      select count(*) filter (where state = ${RUNNING} and locked_until > statement_timestamp()) as running,
             count(*) filter (where ${LAPSED}) as lost,
             count(*) filter (where state = ${COMPLETED} and expires_at > statement_timestamp()) as completed,
             count(*) filter (where state = ${SEALED} and expires_at > statement_timestamp()) as sealed,
             count(*) filter (where state = ${OPEN} and expires_at > statement_timestamp()) as open,
             count(*) filter (where state <> ${RUNNING} and expires_at <= statement_timestamp()) as expired,
             ${milliseconds(`min(locked_until) filter (where ${LAPSED})`)} as oldest_lost
        from ${records}`,
    },

    /** Those whose lease has passed, the latest first: an execution that is held by its transaction is more likely among them. */
    lapsed: {
      name: 'idempotency_lapsed',
      columns: new Columns<LapsedRow>({ id: 'text', locked_until: 'number' }),
      text: `
      select id::text as id, ${milliseconds('locked_until')} as locked_until
        from ${records}
       where ${LAPSED}
       order by locked_until desc
       limit $1::int`,
    },

    /** Names of those whose lease has passed, the oldest first, for an operator who looks into them. */
    lapsedKeys: {
      name: 'idempotency_lapsed_keys',
      columns: new Columns<KeyRow>({ id: 'text', scope: 'text', operation: 'text', key: 'text' }),
      text: `
      select id::text as id, scope, operation, key
        from ${records}
       where ${LAPSED}
       order by locked_until
       limit $1::int`,
    },

    /** The headers of the newest answers, which tell an operator whether answers are encrypted here. */
    newestHeaders: {
      name: 'idempotency_newest_headers',
      columns: new Columns<{ readonly headers: string }>({ headers: 'text' }),
      text: `
      select encode(headers, 'base64') as headers
        from ${records}
       where state = ${COMPLETED}
       order by reap_after desc
       limit $1::int`,
    },

    /** Whether one of them is lost indeed. By its `id`: rows can't be passed by across the shards of a table. */
    isLost: {
      name: 'idempotency_is_lost',
      text: `
      with ${free(records)}
      select from free`,
    },

    /** A bite of expired records. A lost one has no `expires_at` and is never in it: it tells of an unknown outcome. */
    pageOfExpired: {
      name: 'idempotency_page_of_expired',
      columns: new Columns<ExpiredRow>({ id: 'text', has_steps: 'boolean' }),
      text: `
      select id::text as id, ${hasSteps(steps)} as has_steps
        from ${records} as record
       where reap_after <= statement_timestamp()
         and expires_at <= statement_timestamp() and state <> ${RUNNING}
       order by reap_after
       limit $1::int`,
    },

    /** Before their records, so that none is left alone when the reaper is interrupted: what has expired is never resumed. */
    reapSteps: {
      name: 'idempotency_reap_steps',
      text: `
      delete from ${steps} as step
       using ${records} as record
       where step.id = record.id and step.life = record.created_at
         and record.id = any($1::uuid[])
         and record.expires_at <= statement_timestamp() and record.state <> ${RUNNING}`,
    },

    /**
     * Removes a bite. Any number of processes may bite at once: whoever waits for a row lock judges
     * the row again when it gets it. Hence expiry and state stand here again: without them the delete
     * would take a record that a claim has made its own in the meantime.
     */
    reap: {
      name: 'idempotency_reap',
      text: `
      delete from ${records}
       where id = any($1::uuid[])
         and expires_at <= statement_timestamp() and state <> ${RUNNING}`,
    },
  }) satisfies Record<string, Statement>;

/**
 * What an operator asks of the catalogue, whether the tables are there or not. Relations and schemas
 * come in by their bare names.
 */
export const catalogue = {
  server: {
    name: 'idempotency_server',
    columns: new Columns<{ readonly version: string; readonly number: number; readonly read_only: boolean; readonly now: number }>({
      version: 'text',
      number: 'number',
      read_only: 'boolean',
      now: 'number',
    }),
    text: `
      select current_setting('server_version') as version,
             current_setting('server_version_num')::int as number,
             current_setting('transaction_read_only') = 'on' as read_only,
             ${milliseconds('statement_timestamp()')} as now`,
  },

  hasSchema: {
    name: 'idempotency_has_schema',
    text: `
      select from pg_namespace where nspname = $1`,
  },

  /** Those of the relations `$2` that schema `$1` has. An index that was not built to its end is none. */
  relations: {
    name: 'idempotency_relations',
    columns: new Columns<{ readonly name: string }>({ name: 'text' }),
    text: `
      select relname::text as name
        from pg_class
        join pg_namespace as schema on schema.oid = relnamespace
       where nspname = $1 and relname = any($2::text[])
         and not exists (select from pg_index where indexrelid = pg_class.oid and not indisvalid)`,
  },

  /** The schemas that have one of that name, for whoever has looked into the wrong one. */
  schemasWith: {
    name: 'idempotency_schemas_with',
    columns: new Columns<{ readonly name: string }>({ name: 'text' }),
    text: `
      select nspname::text as name
        from pg_class
        join pg_namespace as schema on schema.oid = relnamespace
       where relname = $1
       order by nspname`,
  },

  /** Bytes on disk, with what is stored out of line. */
  sizes: {
    name: 'idempotency_sizes',
    columns: new Columns<Readonly<Record<'records' | 'records_indexes' | 'steps' | 'steps_indexes', number>>>({
      records: 'number',
      records_indexes: 'number',
      steps: 'number',
      steps_indexes: 'number',
    }),
    text: `
      select pg_table_size(to_regclass($1)) as records,
             pg_indexes_size(to_regclass($1)) as records_indexes,
             pg_table_size(to_regclass($2)) as steps,
             pg_indexes_size(to_regclass($2)) as steps_indexes`,
  },

  /** The lock that every migration takes, to the end of the transaction; tells whether it was to be had at once. */
  tryMigrationLock: {
    name: 'idempotency_try_migration_lock',
    text: `
      select pg_try_advisory_xact_lock(hashtextextended('nestjs-idempotency-pg migrations', 0)) as locked`,
  },

  migrationLock: {
    name: 'idempotency_migration_lock',
    text: `
      select pg_advisory_xact_lock(hashtextextended('nestjs-idempotency-pg migrations', 0))`,
  },

  /**
   * The turn to build an index beside running claims, to the end of the session. It is asked for again
   * and again and never waited for: the build waits for every statement that is under way, and would wait
   * for those that wait for it.
   */
  tryIndexTurn: {
    name: 'idempotency_try_index_turn',
    text: `
      select pg_try_advisory_lock(hashtextextended('nestjs-idempotency-pg index', 0)) as locked`,
  },
} satisfies Record<string, Statement>;

/** Whether something was recorded in the life of `record`. `id`, where one is asked for, says which shard. */
function hasSteps(steps: string, id = 'record.id'): string {
  return `exists (select from ${steps} as step where step.id = ${id} and step.life = record.created_at)`;
}

/** As `free`, for one who will write to the row. */
function unheld(records: string): string {
  return `
      unheld as (
        select id
          from ${records}
         where id = $1::uuid and ${LAPSED}
           for no key update skip locked
      )`;
}

/** One record and all steps under its key go together. */
function removal(deletion: string, { records, steps }: Tables): string {
  return `
      with ${unheld(records)}, removed as (${deletion}
        returning id, coalesce(expires_at <= statement_timestamp(), false) as expired
      ), bygone as (
        delete from ${steps} as step
         using removed
         where step.id = $1::uuid and step.id = removed.id
      )
      select expired from removed`;
}

/** Columns and types, and the columns of each unique index: the referees of every race. */
function shapeOf(table: string): string {
  return `(
             select json_build_object(
                      'columns', (select json_object_agg(attname, format_type(atttypid, null))
                                    from pg_attribute
                                   where attrelid = class.oid and attnum > 0 and not attisdropped),
                      'unique', (select json_agg((select json_agg(attname order by attname)
                                                    from pg_attribute
                                                   where attrelid = indrelid and attnum = any(indkey)))
                                   from pg_index
                                  where indrelid = class.oid and indisunique and indisvalid and indpred is null))
               from pg_class as class
              where class.oid = to_regclass(${table}))`;
}

const CLAIM_COLUMNS = new Columns<ClaimRow>(CLAIM_KINDS);

/**
 * Looks first and inserts where nothing is. A replay is then a read: it takes no transaction id,
 * writes no WAL and waits for no disk, as an upsert would even when it changes nothing.
 */
function claim(records: string, returning: string): string {
  return `
      with ${free(records)}, found as (
        select ${RECORD}, ${AGREES}
          from ${records}
         where id = $1::uuid
      ), inserted as (
        insert into ${records}
               (id, scope, operation, key, fingerprint, owner, state, attempt, created_at, locked_until, reap_after)
        select $1::uuid, $2, $3, $4, $5::bytea, $6::uuid, ${RUNNING}, 1, statement_timestamp(),
               statement_timestamp() + ${interval('$7')},
               statement_timestamp() + ${interval('$8')}
         where not exists (select from found)
            on conflict (id) do nothing
        returning ${returning}
      )
      select false as claimed, found.* from found
      union all
      select true, null, null, null, attempt, null, null, null, null, null, null, null from inserted`;
}

const QUEUE_BRIEFLY = `set_config('lock_timeout', $9, true) <> ''`;

/**
 * As one claim for each of several keys; of what was found `n` tells in which one's way it stands, of what was
 * inserted the owner's token does. A key of which nothing is told was lost to somebody that instant, as above.
 * They come in the order of their ids and are inserted in it, so that two processes with the same keys queue up
 * and don't lock each other out. An insert waits for whoever has made one of that id and not committed, and all the
 * others in the statement with it: hence no longer than `$9`, which is an error, 55P03.
 *
 * Each is looked for by itself, since `agrees` is made of both sides beneath an outer join: that leaves Postgres nothing but
 * a nested loop. Any other join might read the table as a whole while it is young, and ask of every record in it whether it
 * is free, which locks it. The LIMIT says that there may
 * be few of them, whatever the array is: so the plan for any array is never dearer than one for this array, and is
 * kept. It is computed once and before all else, which is why it also makes the settings; in an arm of their own they
 * would cost as much as two more claims.
 */
function claimShared(records: string, set: string): string {
  return `
      with looked as (
        select asked.*, record.*
          from (select *
                  from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::uuid[], $7::float8[], $8::float8[])
                         with ordinality
                         as asked (id, scope, operation, key, asked_fingerprint, asked_owner, lease, retention, n)
                 limit case when ${set} then $10::int end) as asked
          left join lateral (
               select ${recordStanding(`exists (${freeRow(records, 'record.id')})`)},
                      (scope = asked.scope and operation = asked.operation and key = asked.key) as agrees
                 from ${records} as record
                where id = asked.id) as record on true
      ), inserted as (
        insert into ${records}
               (id, scope, operation, key, fingerprint, owner, state, attempt, created_at, locked_until, reap_after)
        select id, scope, operation, key, asked_fingerprint, asked_owner, ${RUNNING}, 1, statement_timestamp(),
               statement_timestamp() + ${interval('lease')},
               statement_timestamp() + ${interval('retention')}
          from looked
         where agrees is null
            on conflict (id) do nothing
        returning owner::text
      )
      select n, false as claimed, standing, expired, owner, attempt, status, lease_left_ms, retention_left_ms,
             fingerprint, headers, body, agrees
        from looked
       where agrees is not null
      union all
      select null, true, null, null, owner, 1, null, null, null, null, null, null, null from inserted`;
}

const SHARED_CLAIM_COLUMNS = new Columns<SharedClaimRow>({ n: 'number', ...CLAIM_KINDS });

/** The rows of those whose owner still has them and that nobody holds, under a lock. */
function owned(records: string, asked: string): string {
  return `owned as (
        select ${asked}.*
          from ${asked}
         cross join lateral (${unheldOf(records, asked)}) as unheld
      )`;
}

function unheldOf(records: string, asked: string, column = ''): string {
  return `
               select ${column}
                 from ${records} as record
                where record.id = ${asked}.id and record.owner = ${asked}.owner and record.state = ${RUNNING}
                  for no key update skip locked`;
}

/**
 * A claim that counts first: a key is only taken where its scope has less than `$9` live records. There is
 * no counter, on which all claims of a scope would queue: the newest records are looked at along the index,
 * and no more of them than the limit. Without an order the planner would rather read the table of a few busy
 * scopes from its start, which never ends for a scope that is not one of them. Claims at the same instant don't see each other, so that the limit
 * may be passed by as many as there are connections for claims. What is live already is found without a
 * count: an arm of a query is not computed until somebody looks at it. Counting goes over all shards, if
 * there are any; whoever wants no such statement sets no limit.
 */
function claimWithin(records: string, returning: string): string {
  return `
      with ${free(records)}, found as (
        select ${RECORD}, ${AGREES}
          from ${records}
         where id = $1::uuid
      ), live as (
        select count(*) >= $9::int as is_full, ${milliseconds('min(expires_at) - statement_timestamp()')} as frees_in_ms
          from (select expires_at
                  from ${records}
                 where scope = $2 and (expires_at is null or expires_at > statement_timestamp())
                 order by created_at desc
                 limit $9::int) as counted
      ), inserted as (
        insert into ${records}
               (id, scope, operation, key, fingerprint, owner, state, attempt, created_at, locked_until, reap_after)
        select $1::uuid, $2, $3, $4, $5::bytea, $6::uuid, ${RUNNING}, 1, statement_timestamp(),
               statement_timestamp() + ${interval('$7')},
               statement_timestamp() + ${interval('$8')}
         where case when exists (select from found) then false else not (select is_full from live) end
            on conflict (id) do nothing
        returning ${returning}
      )
      select false as claimed, found.*,
             case when expired then (select is_full from live) else false end as is_full,
             case when expired then (select frees_in_ms from live) end as frees_in_ms
        from found
      union all
      select true, null, null, null, attempt, null, null, null, null, null, null, null, false, null from inserted
      union all
      select false, null, null, null, null, null, null, null, null, null, null, null, true, frees_in_ms
        from live
       where case when exists (select from found) then false else is_full end`;
}

const LIMITED_CLAIM_COLUMNS = new Columns<LimitedClaimRow>({ ...CLAIM_KINDS, is_full: 'boolean', frees_in_ms: 'number' });

function holding(records: string, telling: string): string {
  return `select ${telling}
        from ${records}
       where id = $1::uuid and owner = $2::uuid and state = ${RUNNING}
         for update`;
}

function completed(records: string): string {
  return `
      with completed as (
        update ${records} as record
           set state = ${COMPLETED}, status = $3::smallint, headers = $4::bytea, body = $5::bytea,
               completed_at = statement_timestamp(),
               expires_at = statement_timestamp() + ${interval('$6')},
               locked_until = null
         where ${OWNED}
        returning record.id
      )`;
}

function sealed(records: string): string {
  return `
      with sealed as (
        update ${records} as record
           set state = ${SEALED}, status = $3::smallint,
               completed_at = statement_timestamp(),
               expires_at = statement_timestamp() + ${interval('$4')},
               locked_until = null
         where ${OWNED}
        returning record.id
      )`;
}

export const BEGIN: Statement = { name: 'idempotency_begin', text: 'begin' };
export const BEGIN_ISOLATED: Readonly<Record<IsolationLevel, Statement>> = {
  'READ COMMITTED': { name: 'idempotency_begin_read_committed', text: 'begin isolation level read committed' },
  'REPEATABLE READ': { name: 'idempotency_begin_repeatable_read', text: 'begin isolation level repeatable read' },
  SERIALIZABLE: { name: 'idempotency_begin_serializable', text: 'begin isolation level serializable' },
};

/** Where no row is held that could be asked for together with it. */
export const IDLE_LIMIT: Statement = { name: 'idempotency_idle_limit', text: `select ${idleLimit('$1')}` };

/** To the end of the transaction. */
function idleLimit(milliseconds: string): string {
  return `set_config('idle_in_transaction_session_timeout', ${milliseconds}, true)`;
}

/** Part of what COMMIT would say: constraints that can wait for it are checked at once, with their locks kept. */
export const CHECK_CONSTRAINTS: Statement = { name: 'idempotency_check_constraints', text: 'set constraints all immediate' };

/** An empty query: Postgres takes it even in an aborted transaction, and starts its idle timer anew. */
export const KEEP_ALIVE: Statement = { name: 'idempotency_keep_alive', text: '-- still running' };
export const COMMIT: Statement = { name: 'idempotency_commit', text: 'commit' };
export const ROLL_BACK: Statement = { name: 'idempotency_roll_back', text: 'rollback' };

/** A part of a transaction that can be undone by itself. */
export function savepoint(number: number): Readonly<Record<'set' | 'release' | 'undo', Statement>> {
  const point = `savepoint idempotency_${number}`;
  return {
    set: { name: 'idempotency_savepoint', text: point },
    release: { name: 'idempotency_release_savepoint', text: `release ${point}` },
    undo: { name: 'idempotency_undo_savepoint', text: `rollback to ${point}; release ${point}` },
  };
}
