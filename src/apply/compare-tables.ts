import type { OwnTable } from '../own-table.ts'

/** What registers are asked, to compare what they have published with the archive: a row for each comparison that is under way. */
export const COMPARISONS = {
  name: 'sync_comparisons',
  columns: {
    register_id: 'integer',
    comparison_id: 'text',
    /** How often the register has answered. */
    step: 'integer',
    table_name: 'text',
    /** Whether documents are to be named. */
    list: 'boolean',
    /** What is still to be answered: a JSON array of ranges of record ids. */
    ranges: 'text',
    asked_at: 'time',
    /** From then on nobody waits for an answer. */
    expires_at: 'time',
  },
  primaryKey: ['register_id', 'comparison_id'],
  stamped: 'asked_at',
} as const satisfies OwnTable

/** What they answered, until it is judged. */
export const COMPARISON_ANSWERS = {
  name: 'sync_comparison_answers',
  columns: {
    register_id: 'integer',
    comparison_id: 'text',
    step: 'integer',
    /** Of the register's history. */
    epoch: 'text',
    /** JSON: what was answered, and about which ranges. */
    answer: 'text',
  },
  primaryKey: ['register_id', 'comparison_id', 'step'],
} as const satisfies OwnTable
