import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { type AuditCounts, type AuditFinding, MOST_FINDINGS, type NumberedDocument, type NumberRange } from './audit-findings.ts'
import type { Numbering } from './numbering.ts'
import { ARCHIVE, DOCUMENTS, LIVES, ORPHANS } from './tables.ts'

/** What the numbers of a table prove. */
export interface AuditedNumbers {
  readonly table: string
  readonly column: string
  /** Documents that have a number. */
  readonly documents: number
  /** Documents whose column is NULL: they have none. */
  readonly unnumbered: number
  /** In how many series. */
  readonly series: number
  /** How many numbers are declared void: by their documents, by others, or as those of orphans that were withdrawn. */
  readonly void: number
  /** The first 1,000 ranges of them. */
  readonly voids: readonly NumberRange[]
}

/** Of which register, and what is known of its archive. */
export interface NumbersOf {
  readonly registerId: number
  /** Records that can't be read. */
  readonly unreadable: readonly { readonly epochNo: number; readonly entryNo: number }[]
  readonly epochs: ReadonlyMap<number, string>
  /** Whether the removal of a document takes back what was posted for it. */
  appliesRemovals(table: string): boolean
}

/** How many ranges and documents a finding names at most. */
const MOST_NAMED = 20
/** More digits are no number. */
const MOST_DIGITS = 100

interface Row {
  readonly kind: 'missing' | 'twice' | 'unreadable' | 'void' | 'total'
  readonly series: string | null
  readonly prefix: string | null
  readonly a: string
  readonly b: string
  readonly documents: string | null
}

/** Proves a register's own numbers of one table; the database does the work. */
export function* auditNumbers(
  database: ApplyingDatabase,
  numbering: Numbering,
  of: NumbersOf,
): Work<{ readonly numbers: AuditedNumbers; readonly findings: readonly AuditFinding[]; readonly counts: AuditCounts }> {
  const rows = yield* query<Row>(statementOf(database, numbering, of))
  const { table, column } = numbering
  const range = ({ series, prefix, a, b }: Row): NumberRange => {
    const values = JSON.parse(series ?? '[]') as (string | null)[]
    const by = Object.fromEntries(numbering.by.map((name, n) => [name, values[n] ?? null]))
    return { table, column, by, prefix: prefix ?? '', from: toNumber(a), through: toNumber(b) }
  }
  const documentsOf = ({ documents }: Row): readonly NumberedDocument[] =>
    (JSON.parse(documents ?? '[]') as { id: string; epoch: number; entry: number; state: NumberedDocument['state'] }[]).map((one) => {
      return { recordId: one.id, epoch: of.epochs.get(one.epoch) ?? '', entryNo: one.entry, state: one.state }
    })
  const findings: AuditFinding[] = []
  const voids: NumberRange[] = []
  const totals = new Map<string, number>()
  for (const row of rows) {
    if (row.kind === 'total') totals.set(row.a, Number(row.b))
    else if (row.kind === 'void') voids.push(range(row))
    else if (row.kind === 'missing') findings.push({ code: 'NUMBERS_MISSING', ...range(row) })
    else if (row.kind === 'twice') findings.push({ code: 'NUMBER_TWICE', ...range(row), documents: documentsOf(row) })
    else for (const one of documentsOf(row)) findings.push({ code: 'NUMBER_UNREADABLE', table, column, ...one })
  }
  const total = (name: string) => totals.get(name) ?? 0
  return {
    numbers: { table, column, documents: total('documents'), unnumbered: total('unnumbered'), series: total('series'), void: total('void'), voids },
    findings,
    counts: { NUMBERS_MISSING: total('missing'), NUMBER_TWICE: total('twice'), NUMBER_UNREADABLE: total('unreadable') },
  }
}

function toNumber(text: string): number | bigint {
  const number = BigInt(text)
  return number >= Number.MIN_SAFE_INTEGER && number <= Number.MAX_SAFE_INTEGER ? Number(number) : number
}

/** Half of a surrogate pair and NUL, as JSON escapes them, are no characters to PostgreSQL; two backslashes are one, and escape nothing. */
const NO_CHARACTERS = String.raw`(?<!\\)((?:\\\\)*)\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})`
const AS_JSON = String.raw`(CASE WHEN strpos(a.record, '\u') > 0 THEN regexp_replace(a.record, '${NO_CHARACTERS}', '\1\\ufffd', 'g') ELSE a.record END)::json`

class Parameters {
  readonly values: unknown[] = []

  add(value: unknown, type: string): string {
    this.values.push(value)
    return `$${this.values.length}::${type}`
  }
}

function statementOf(database: ApplyingDatabase, numbering: Numbering, of: NumbersOf) {
  const parameters = new Parameters()
  const shared = {
    register: parameters.add(of.registerId, 'bigint'),
    unreadable: `unnest(${parameters.add(
      of.unreadable.map((one) => one.epochNo),
      'bigint[]',
    )}, ${parameters.add(
      of.unreadable.map((one) => one.entryNo),
      'bigint[]',
    )}) AS u(epoch_no, entry_no)`,
  }
  const own = documentsIn(
    database,
    { table: numbering.table, column: numbering.column, by: numbering.by, void: numbering.void },
    of,
    shared,
    parameters,
  )
  const others = numbering.voidedIn.map((other) => documentsIn(database, { ...other, void: [] }, of, shared, parameters))
  const first = parameters.add(numbering.first ?? null, 'numeric')
  const sql = `
    WITH own AS MATERIALIZED (${own}),
    named AS (
      SELECT series, prefix, number, state, is_void, state <> 'withdrawn' AND NOT is_undone AS counts FROM own
      ${others.map((other) => `UNION ALL SELECT series, prefix, number, state, true, false FROM (${other}) o WHERE state <> 'withdrawn'`).join('\n')}),
    numbers AS MATERIALIZED (
      SELECT series, prefix, number, count(*) FILTER (WHERE counts) AS uses, bool_or(is_void) OR bool_and(state = 'withdrawn') AS is_void,
             lag(number) OVER (PARTITION BY series, prefix ORDER BY number) AS before
      FROM named WHERE number IS NOT NULL GROUP BY series, prefix, number),
    missing AS (
      SELECT series, prefix, coalesce(before + 1, ${first}) AS a, number - 1 AS b FROM numbers WHERE number > coalesce(before + 1, ${first})),
    voids AS (
      SELECT series, prefix, min(number) AS a, max(number) AS b FROM (
        SELECT series, prefix, number, number - row_number() OVER (PARTITION BY series, prefix ORDER BY number) AS island FROM numbers WHERE is_void) v
      GROUP BY series, prefix, island),
    twice AS (
      SELECT series, prefix, number FROM numbers WHERE uses > 1 ORDER BY series, prefix, number LIMIT ${MOST_FINDINGS})
    SELECT kind, to_json(series)::text AS series, prefix, a::text AS a, b::text AS b, documents::text AS documents FROM (
      (SELECT 1 AS n, 'missing' AS kind, series, prefix, a, b, NULL::json AS documents FROM missing ORDER BY series, prefix, a LIMIT ${MOST_FINDINGS})
      UNION ALL
      (SELECT 2, 'twice', t.series, t.prefix, t.number, t.number, d.documents FROM (
        SELECT o.series, o.prefix, o.number, json_agg(${named('o')} ORDER BY o.epoch_no, o.entry_no) FILTER (WHERE o.place <= ${MOST_NAMED}) AS documents
        FROM (SELECT own.*, row_number() OVER (PARTITION BY own.series, own.prefix, own.number ORDER BY own.epoch_no, own.entry_no) AS place
              FROM own JOIN twice USING (series, prefix, number) WHERE own.state <> 'withdrawn' AND NOT own.is_undone) o
        GROUP BY o.series, o.prefix, o.number) d JOIN twice t USING (series, prefix, number) ORDER BY t.series, t.prefix, t.number)
      UNION ALL
      (SELECT 3, 'unreadable', NULL, NULL, 0, 0, json_build_array(${named('own')}) FROM own
       WHERE number IS NULL AND NOT is_unnumbered AND state <> 'withdrawn' ORDER BY epoch_no, entry_no LIMIT ${MOST_FINDINGS})
      UNION ALL
      (SELECT 4, 'void', series, prefix, a, b, NULL FROM voids ORDER BY series, prefix, a LIMIT ${MOST_FINDINGS})) r
    UNION ALL SELECT 'total', NULL, NULL, t.name, t.total::text, NULL FROM (VALUES
      ('missing', (SELECT coalesce(sum(b - a + 1), 0) FROM missing)), ('twice', (SELECT count(*) FROM numbers WHERE uses > 1)),
      ('void', (SELECT count(*) FROM numbers WHERE is_void)), ('unreadable', (SELECT count(*) FROM own WHERE number IS NULL AND NOT is_unnumbered AND state <> 'withdrawn')),
      ('documents', (SELECT count(*) FROM own WHERE number IS NOT NULL AND state <> 'withdrawn')),
      ('unnumbered', (SELECT count(*) FROM own WHERE is_unnumbered AND state <> 'withdrawn')),
      ('series', (SELECT count(*) FROM numbers WHERE before IS NULL))) AS t(name, total)`
  return { sql, parameters: parameters.values }
}

function named(document: string): string {
  const { epoch, entry } = { epoch: `${document}.epoch_no`, entry: `${document}.entry_no` }
  return `json_build_object('id', ${document}.record_id, 'epoch', ${epoch}, 'entry', ${entry}, 'state', ${document}.state)`
}

interface NumberedTable {
  readonly table: string
  readonly column: string
  readonly by: readonly string[]
  readonly void: Numbering['void']
}

/**
 * The documents of a table with their numbers, each in the latest version of its life: those that are there, those that were removed or whose key was used again, and those that the
 * register has lost.
 */
function documentsIn(
  database: ApplyingDatabase,
  { table, column, by, void: voids }: NumberedTable,
  of: NumbersOf,
  shared: { readonly register: string; readonly unreadable: string },
  parameters: Parameters,
): string {
  const [archive, documents, lives, orphans] = [ARCHIVE, DOCUMENTS, LIVES, ORPHANS].map(({ name }) => database.qualify(name))
  const { register, unreadable } = shared
  const name = parameters.add(table, 'text')
  const value = `(j.record ->> ${parameters.add(column, 'text')})`
  const type = `json_typeof(j.record -> ${parameters.add(column, 'text')})`
  const series = `ARRAY[${by.map((one) => `(j.record ->> ${parameters.add(one, 'text')}) COLLATE "C"`).join(', ')}]::text[]`
  const isVoid = voids.map((all) =>
    all
      .map(([name, texts]) => {
        const text = `(j.record ->> ${parameters.add(name, 'text')})`
        return texts === null ? `${text} IS NULL` : `coalesce(${text} = ANY (${parameters.add(texts, 'text[]')}), false)`
      })
      .join(' AND '),
  )
  return `
    SELECT v.epoch_no, v.entry_no, a.record_id, v.state, v.is_undone, d.prefix COLLATE "C" AS prefix, ${series} AS series,
           CASE WHEN length(d.digits) <= ${MOST_DIGITS} THEN d.digits::numeric END AS number, coalesce(${type} = 'null', false) AS is_unnumbered,
           ${isVoid.length === 0 ? 'false' : isVoid.join(' OR ')} AS is_void
    FROM (
      SELECT l.epoch_no, l.entry_no, coalesce(o.state, l.state) AS state, l.is_removed AND ${of.appliesRemovals(table)} AS is_undone FROM (
        SELECT record_id, incarnation, epoch_no, entry_no, 'present' AS state, false AS is_removed FROM ${documents}
        WHERE register_id = ${register} AND table_name = ${name} AND NOT removed
        UNION ALL
        SELECT l.record_id, l.incarnation, l.epoch_no, l.entry_no, 'removed', l.removal_no IS NOT NULL FROM ${lives} l
        CROSS JOIN LATERAL (SELECT removed, incarnation FROM ${documents} d
          WHERE d.register_id = l.register_id AND d.table_name = l.table_name AND d.record_id = l.record_id OFFSET 0) d
        WHERE l.register_id = ${register} AND l.table_name = ${name} AND (d.removed OR l.incarnation <> d.incarnation)) l
      LEFT JOIN LATERAL (SELECT state FROM ${orphans} o WHERE o.register_id = ${register} AND o.table_name = ${name} AND o.record_id = l.record_id COLLATE "default"
        AND o.incarnation = l.incarnation AND o.state <> 'returned' OFFSET 0) o ON true) v
    CROSS JOIN LATERAL (SELECT * FROM ${archive} a WHERE a.register_id = ${register} AND a.epoch_no = v.epoch_no AND a.entry_no = v.entry_no OFFSET 0) a
    LEFT JOIN ${unreadable} ON u.epoch_no = a.epoch_no AND u.entry_no = a.entry_no
    CROSS JOIN LATERAL (SELECT CASE WHEN u.entry_no IS NULL THEN ${AS_JSON} END AS record OFFSET 0) j
    CROSS JOIN LATERAL (
      SELECT CASE ${type} WHEN 'number' THEN substring(${value} from '^(-?[0-9]+)(?:[.]0+)?$') WHEN 'string' THEN substring(${value} from '[0-9]+$') END AS digits OFFSET 0) g
    CROSS JOIN LATERAL (SELECT g.digits, CASE ${type} WHEN 'string' THEN left(${value}, length(${value}) - length(g.digits)) ELSE '' END AS prefix) d`
}
