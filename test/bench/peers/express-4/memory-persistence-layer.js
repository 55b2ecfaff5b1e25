// @ts-nocheck The packages are installed when the benchmark runs; until then there are no types of them.
/**
 * A store of one's own, in this process's memory, as the manual of Powertools says one is written.
 * It is the cheapest that there can be, for a comparison with what the utility itself costs; records
 * end with the process, and are never removed before.
 */
import {
  IdempotencyItemAlreadyExistsError,
  IdempotencyItemNotFoundError,
  IdempotencyRecordStatus,
} from '@aws-lambda-powertools/idempotency';
import { BasePersistenceLayer } from '@aws-lambda-powertools/idempotency/persistence';

export class MemoryPersistenceLayer extends BasePersistenceLayer {
  #records = new Map();

  async _putRecord(record) {
    const existing = this.#records.get(record.idempotencyKey);
    if (existing !== undefined && !isOver(existing)) throw new IdempotencyItemAlreadyExistsError('There is a record', existing);
    this.#records.set(record.idempotencyKey, record);
  }

  async _getRecord(idempotencyKey) {
    const record = this.#records.get(idempotencyKey);
    if (record === undefined) throw new IdempotencyItemNotFoundError('There is no record');
    return record;
  }

  async _updateRecord(record) {
    this.#records.set(record.idempotencyKey, record);
  }

  async _deleteRecord({ idempotencyKey }) {
    this.#records.delete(idempotencyKey);
  }
}

function isOver(record) {
  if (record.getStatus() !== IdempotencyRecordStatus.INPROGRESS) return record.isExpired();
  return record.inProgressExpiryTimestamp < Date.now();
}
