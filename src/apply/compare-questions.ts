import {
  CODEC,
  type ComparedPart,
  type ComparisonAnswer,
  type ComparisonQuestion,
  type HashedTable,
  type RecordIdRange,
  restOf,
} from '../comparison.ts'
import type { ComparisonFailure } from '../comparison-errors.ts'
import { isPostable } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { insert, query, type Work } from '../work.ts'
import { COMPARISON_ANSWERS, COMPARISONS } from './compare-tables.ts'

/** A comparison with a register, under a random name. */
export interface AskedComparison {
  readonly registerId: number
  readonly comparisonId: string
}

/** A part of an answer, with the range that it is about. */
export interface ToldPart extends Pick<ComparedPart, 'entryNo' | 'count' | 'digest' | 'documents'> {
  readonly range: RecordIdRange
}

/** What a register answered. */
export interface Told {
  /** Of the register's history. */
  readonly epoch: string
  readonly tables: readonly HashedTable[]
  /** Central publishes documents of the table, too. */
  readonly both: boolean
  readonly parts: readonly ToldPart[]
  /** Why there is nothing else: the register's word, or what is wrong with its answer. */
  readonly refused: ComparisonFailure | undefined
}

/** Asks from now on, for so long as nobody says that it is still waited for. */
export function* ask(
  database: ApplyingDatabase,
  { registerId, comparisonId }: AskedComparison,
  { table, list, ranges }: Omit<ComparisonQuestion, 'id'>,
  forMs: number,
): Work<void> {
  const name = database.qualify(COMPARISONS.name)
  for (const one of [COMPARISONS, COMPARISON_ANSWERS])
    yield* query({
      sql: `DELETE FROM ${database.qualify(one.name)} WHERE (register_id, comparison_id) IN (SELECT register_id, comparison_id FROM ${name} WHERE expires_at < now())`,
      parameters: [],
    })
  yield* query({
    sql: `INSERT INTO ${name} AS c (register_id, comparison_id, step, table_name, list, ranges, expires_at)
          VALUES ($1, $2, 0, $3, $4, $5, now() + $6 * interval '1 ms')
          ON CONFLICT (register_id, comparison_id) DO UPDATE SET step = c.step + 1, list = excluded.list, ranges = excluded.ranges, expires_at = excluded.expires_at`,
    parameters: [registerId, comparisonId, table, list, toKept(ranges), forMs],
  })
}

/** Still waited for. False where the question is gone. */
export function* prolong(database: ApplyingDatabase, { registerId, comparisonId }: AskedComparison, forMs: number): Work<boolean> {
  const rows = yield* query({
    sql: `UPDATE ${database.qualify(COMPARISONS.name)} SET expires_at = now() + $3 * interval '1 ms' WHERE register_id = $1 AND comparison_id = $2 RETURNING 1 AS one`,
    parameters: [registerId, comparisonId, forMs],
  })
  return rows.length > 0
}

export function* forget(database: ApplyingDatabase, { registerId, comparisonId }: AskedComparison): Work<void> {
  for (const { name } of [COMPARISON_ANSWERS, COMPARISONS])
    yield* query({
      sql: `DELETE FROM ${database.qualify(name)} WHERE register_id = $1 AND comparison_id = $2`,
      parameters: [registerId, comparisonId],
    })
}

/** The answer that comes next; undefined where there is none yet. `left`: whether more is to come. */
export function* nextAnswer(
  database: ApplyingDatabase,
  { registerId, comparisonId }: AskedComparison,
  after: number,
): Work<{ readonly told: Told | undefined; readonly step: number; readonly left: boolean } | undefined> {
  const [row] = yield* query<{ ranges: string; step: number | null; epoch: string | null; answer: string | null }>({
    sql: `SELECT c.ranges, a.step, a.epoch, a.answer FROM ${database.qualify(COMPARISONS.name)} c
          LEFT JOIN LATERAL (SELECT step, epoch, answer FROM ${database.qualify(COMPARISON_ANSWERS.name)} a
            WHERE a.register_id = c.register_id AND a.comparison_id = c.comparison_id AND a.step > $3 ORDER BY a.step LIMIT 1) a ON true
          WHERE c.register_id = $1 AND c.comparison_id = $2`,
    parameters: [registerId, comparisonId, after],
  })
  if (row === undefined) return undefined
  const { step, epoch, answer, ranges } = row
  const told = answer === null ? undefined : ({ ...JSON.parse(answer), epoch: epoch as string } as Told)
  return { told, step: step ?? after, left: ranges !== '[]' }
}

/** Of a register's row `r`, as a column: what it is asked just now. */
export function askedColumn(database: ApplyingDatabase): string {
  return `(SELECT json_build_array(c.comparison_id, c.step, c.table_name, c.list, c.ranges)::text FROM ${database.qualify(COMPARISONS.name)} c
           WHERE c.register_id = r.register_id AND c.ranges <> '[]' AND c.expires_at > now() ORDER BY c.asked_at, c.comparison_id LIMIT 1)`
}

/** What that column says. */
export function askedQuestion(asked: string | null): ComparisonQuestion | undefined {
  if (asked === null) return undefined
  const [comparisonId, step, table, list, ranges] = JSON.parse(asked) as [string, number, string, boolean, string]
  return { id: `${comparisonId}.${step}`, table, list, ranges: (JSON.parse(ranges) as (readonly [string, string | null])[]).map(asRange) }
}

/** As ranges are kept. */
function toKept(ranges: readonly RecordIdRange[]): string {
  return JSON.stringify(ranges.map(({ after, through }) => [after, through ?? null]))
}

function asRange([after, through]: readonly [string, string | null]): RecordIdRange {
  return { after, through: through ?? undefined }
}

/**
 * Writes down what a register answers to what it is asked, with its row locked; an answer to something else changes nothing. One that does not fit the question ends the
 * comparison, and nothing else: what came with it is taken.
 */
export function* hearAnswer(
  database: ApplyingDatabase,
  registerId: number,
  asked: string | null,
  epoch: string,
  answer: ComparisonAnswer | 'unread',
): Work<void> {
  const question = askedQuestion(asked)
  if (question === undefined || (answer !== 'unread' && question.id !== answer.id)) return
  const [comparisonId, step] = JSON.parse(asked as string) as [string, number]
  const heard = answer === 'unread' ? ended('malformed') : judge(question, answer)
  yield* insert(COMPARISON_ANSWERS, [[registerId, comparisonId, step + 1, epoch, JSON.stringify(heard.told)]])
  yield* query({
    sql: `UPDATE ${database.qualify(COMPARISONS.name)} SET step = step + 1, ranges = $3 WHERE register_id = $1 AND comparison_id = $2`,
    parameters: [registerId, comparisonId, toKept(heard.rest)],
  })
}

interface Heard {
  readonly told: Omit<Told, 'epoch'>
  readonly rest: readonly RecordIdRange[]
}

function ended(why: Told['refused']): Heard {
  return { told: { tables: [], both: false, parts: [], refused: why }, rest: [] }
}

function judge(question: ComparisonQuestion, { codec, refused, parts, tables, both }: ComparisonAnswer): Heard {
  if (codec !== CODEC) return ended('codec')
  if (refused !== undefined) return ended(refused)
  const ids = parts.flatMap(({ through, documents }) => [through ?? '', ...(documents ?? []).map(({ recordId }) => recordId)])
  const followed = restOf(question, parts)
  if (followed === undefined || parts.length === 0 || !ids.every(isPostable)) return ended('malformed')
  const { rest, told } = followed
  return {
    told: {
      tables,
      both,
      parts: parts.map(({ entryNo, count, digest, documents }, n) => ({ entryNo, count, digest, documents, range: told[n] as RecordIdRange })),
      refused: undefined,
    },
    rest,
  }
}
