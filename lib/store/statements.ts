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
import type { Statement } from './session.js';
import type { Tables } from './table-name.js';

/** How `state` is written. *Lost* is nothing that anybody writes: it is a running record whose lease has passed. */
const RUNNING = 0;
const COMPLETED = 1;
const SEALED = 2;
const OPEN = 3;

const interval = (parameter: string): string => `${parameter}::float8 * interval '1 millisecond'`;
const milliseconds = (instant: string): string => `(extract(epoch from ${instant}) * 1000)::float8`;

const STANDING = `
  case state
    when ${RUNNING} then case when locked_until > statement_timestamp() then 'running' else 'lost' end
    when ${COMPLETED} then 'completed'
    when ${SEALED} then 'sealed'
    when ${OPEN} then 'open'
  end as standing,
  coalesce(expires_at <= statement_timestamp(), false) as expired`;

/** A record as a claim meets it. The column list of `RecordRow`. */
const RECORD = `${STANDING},
  owner::text, attempt, status,
  ${milliseconds('locked_until - statement_timestamp()')} as lease_left_ms,
  encode(fingerprint, 'base64') as fingerprint,
  encode(headers, 'base64') as headers,
  encode(body, 'base64') as body`;

/** A row is found by a digest, and believed only when what was digested is the same too. */
const AGREES = '(scope = $2 and operation = $3 and key = $4) as agrees';

export const statements = ({ records }: Tables) =>
  ({
    /**
     * Before the first record, at boot: the table of that name as the catalogue has it, which answers
     * at once however large the table is.
     */
    inspect: {
      name: 'idempotency_inspect',
      text: `
      select current_setting('synchronous_commit') as synchronous_commit,
             (select json_object_agg(attname, format_type(atttypid, null))
                from pg_attribute
               where attrelid = to_regclass($1) and attnum > 0 and not attisdropped) as columns,
             exists (select from pg_index join pg_attribute on attrelid = indrelid and indkey::text = attnum::text
                      where indrelid = to_regclass($1) and indisunique and indisvalid and indpred is null
                        and attname = 'id') as unique_id`,
    },

    /**
     * Becomes the owner of a free key, or tells what stands there, in one trip. Of simultaneous
     * inserts the primary key lets one through; the others wait for it and then insert nothing. They
     * get no row, since what they lost against is newer than their snapshot, and ask again.
     */
    claim: { name: 'idempotency_claim', text: claim(records, 'attempt') },

    /**
     * The same, but its commit does not wait for the disk. Other sessions see it at once all the
     * same. WAL is flushed in order: whoever later commits something in this database has the claim
     * on disk before it.
     */
    claimUnflushed: {
      name: 'idempotency_claim_unflushed',
      text: claim(records, `attempt, set_config('synchronous_commit', 'off', true)`),
    },

    /**
     * Makes a fresh claim of a record whose time is over. Several may have seen it expire: they queue
     * at the row lock, and after the first it is running, and nobody else's to take. `reap_after` is
     * indexed, so this is no HOT update; the reaper mostly comes before it.
     */
    takeExpired: {
      name: 'idempotency_take_expired',
      text: `
      update ${records}
         set fingerprint = $2::bytea, owner = $3::uuid, state = ${RUNNING}, attempt = 1,
             created_at = statement_timestamp(),
             locked_until = statement_timestamp() + ${interval('$4')},
             reap_after = statement_timestamp() + ${interval('$5')},
             completed_at = null, expires_at = null, status = null, headers = null, body = null
       where id = $1::uuid
         and state <> ${RUNNING} and expires_at <= statement_timestamp()`,
    },

    /**
     * Takes a lost or open record over from the owner it was seen under. The row lock makes several
     * queue, and only the first finds that owner. A late owner that completed or renewed in between
     * has changed the state or the lease, and is not disturbed.
     */
    takeOver: {
      name: 'idempotency_take_over',
      text: `
      update ${records}
         set owner = $3::uuid, state = ${RUNNING}, attempt = attempt + 1,
             locked_until = statement_timestamp() + ${interval('$4')},
             completed_at = null, expires_at = null
       where id = $1::uuid and owner = $2::uuid
         and ((state = ${RUNNING} and locked_until <= statement_timestamp())
           or (state = ${OPEN} and expires_at > statement_timestamp()))
      returning attempt`,
    },

    /**
     * Prolongs all leases of a process at once. Each names its owner token, so a record that somebody
     * has taken over stays theirs. A lease that has passed is prolonged too: nobody has claimed it.
     */
    renew: {
      name: 'idempotency_renew',
      text: `
      update ${records} as record
         set locked_until = statement_timestamp() + ${interval('lease.ms')}
        from unnest($1::uuid[], $2::uuid[], $3::float8[]) as lease (id, owner, ms)
       where record.id = lease.id and record.owner = lease.owner and record.state = ${RUNNING}
      returning record.id::text as id`,
    },

    /**
     * Keeps the answer. The owner token refuses everybody who was superseded, and the state refuses a
     * second answer. No indexed column changes, so the update is HOT.
     */
    complete: {
      name: 'idempotency_complete',
      text: `
      update ${records}
         set state = ${COMPLETED}, status = $3::smallint, headers = $4::bytea, body = $5::bytea,
             completed_at = statement_timestamp(),
             expires_at = statement_timestamp() + ${interval('$6')},
             locked_until = null
       where id = $1::uuid and owner = $2::uuid and state = ${RUNNING}`,
    },

    /** Ends the execution without a replayable answer. Guarded as `complete` is. */
    seal: {
      name: 'idempotency_seal',
      text: `
      update ${records}
         set state = ${SEALED}, status = $3::smallint,
             completed_at = statement_timestamp(),
             expires_at = statement_timestamp() + ${interval('$4')},
             locked_until = null
       where id = $1::uuid and owner = $2::uuid and state = ${RUNNING}`,
    },

    /** Who owns the key by now, for one whose write was refused. A token of one's own shows that an earlier sending got through. */
    successor: {
      name: 'idempotency_successor',
      text: `
      select ${RECORD}
        from ${records}
       where id = $1::uuid`,
    },

    /** Frees the key. The owner token and the state keep it from anybody else's row and from an answer. */
    release: {
      name: 'idempotency_release',
      text: `
      delete from ${records}
       where id = $1::uuid and owner = $2::uuid and state = ${RUNNING}`,
    },

    /** A record for an operator's eyes: no answer, no token. */
    find: {
      name: 'idempotency_find',
      text: `
      select ${STANDING}, attempt, status,
             ${milliseconds('created_at')} as created_at,
             ${milliseconds('completed_at')} as completed_at,
             ${milliseconds('locked_until')} as locked_until,
             ${milliseconds('expires_at')} as expires_at,
             ${AGREES}
        from ${records}
       where id = $1::uuid`,
    },

    /** Removes a record unless it is live. Whether it is, is decided under the row lock, not by who looked before. */
    forget: {
      name: 'idempotency_forget',
      text: `
      delete from ${records}
       where id = $1::uuid and scope = $2 and operation = $3 and key = $4
         and (state <> ${RUNNING} or locked_until <= statement_timestamp())
      returning coalesce(expires_at <= statement_timestamp(), false) as expired`,
    },

    /** One page of the whole table along its primary key. There is no index on the scope: too dear for what is asked so seldom. */
    pageOfRecords: {
      name: 'idempotency_page_of_records',
      text: `
      select id::text as id, scope = $2 as wanted
        from ${records}
       where id > $1::uuid
       order by id
       limit $3::int`,
    },

    /** Removes what a page has shown, with scope and liveness judged again: the page was read some time ago. */
    forgetPage: {
      name: 'idempotency_forget_page',
      text: `
      delete from ${records}
       where id = any($1::uuid[]) and scope = $2
         and (state <> ${RUNNING} or locked_until <= statement_timestamp())`,
    },

    /** The one statement that reads the table as a whole, for an operator. */
    stats: {
      name: 'idempotency_stats',
      text: `
      select count(*) filter (where state = ${RUNNING} and locked_until > statement_timestamp()) as running,
             count(*) filter (where state = ${RUNNING} and locked_until <= statement_timestamp()) as lost,
             count(*) filter (where state = ${COMPLETED} and expires_at > statement_timestamp()) as completed,
             count(*) filter (where state = ${SEALED} and expires_at > statement_timestamp()) as sealed,
             count(*) filter (where state = ${OPEN} and expires_at > statement_timestamp()) as open,
             count(*) filter (where state <> ${RUNNING} and expires_at <= statement_timestamp()) as expired,
             ${milliseconds(`min(locked_until) filter (where state = ${RUNNING} and locked_until <= statement_timestamp())`)} as oldest_lost
        from ${records}`,
    },

    /**
     * Removes a bite of expired records. Any number of processes may bite at once: whoever waits for
     * a row lock judges the row again when it gets it, but only by the outer WHERE, the inner one
     * having been answered from the snapshot. Hence expiry and state stand in both: without the outer
     * ones the delete would take a record that a claim has made its own in the meantime.
     * A lost record has no `expires_at` and is never removed: it tells of an unknown outcome.
     */
    reap: {
      name: 'idempotency_reap',
      text: `
      delete from ${records}
       where id in (select id
                      from ${records}
                     where reap_after <= statement_timestamp()
                       and expires_at <= statement_timestamp() and state <> ${RUNNING}
                     order by reap_after
                     limit $1::int)
         and expires_at <= statement_timestamp() and state <> ${RUNNING}`,
    },
  }) satisfies Record<string, Statement>;

/**
 * Looks first and inserts where nothing is. A replay is then a read: it takes no transaction id,
 * writes no WAL and waits for no disk, as an upsert would even when it changes nothing.
 */
function claim(records: string, returning: string): string {
  return `
      with found as (
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
      select true, null, null, null, attempt, null, null, null, null, null, null from inserted`;
}
