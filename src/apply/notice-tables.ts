import type { OwnTable } from '../own-table.ts'

/** What the operator of a register is to be told: one row for each followed column, or record, that is not as it was when he was last told. */
export const NOTICES = {
  name: 'sync_notices',
  columns: {
    notice_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    /** Empty where the record itself came or went. */
    column_name: 'text',
    kind: 'text',
    /** JSON text: a value; where a record came or went an object of the followed columns. NULL where there was, or is, none. */
    old: 'text',
    new: 'text',
    noted_at: 'text',
  },
  primaryKey: ['table_name', 'record_id', 'column_name'],
  nullable: ['old', 'new'],
  uniques: [['notice_id']],
} as const satisfies OwnTable
