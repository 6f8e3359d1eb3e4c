import type { ApplyingDatabase, WriteOptions } from '../ports.ts'
import { query, type Step, type Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import { type Verdict, verdictOf } from './quarantine-verdict.ts'

/** A document that could not be applied, and why. */
export interface Failed {
  readonly document: AppliedDocument
  readonly verdict: Verdict
}

/**
 * How documents are applied. 'together': all at once, without savepoints. 'apart': in parts, each behind a savepoint, so that those at fault come out. 'strict': with each
 * part also what is otherwise left to the end, stock levels and deferred constraints.
 */
export type Mode = 'together' | 'apart' | 'strict'

/** After so many documents that hang one by one, it is not the documents. */
const MOST_HUNG = 3

const NOTHING: readonly Step[] = []

/** What is known of the documents of one transaction over its tries: it is run again where something fails that can't be undone by a savepoint. */
export class Division {
  mode: Mode
  /** Documents that lost the transaction when they were tried alone. */
  private readonly lost = new Map<string, Verdict>()
  /** How many documents are tried at once where the first is this one. */
  private readonly most = new Map<string, number>()
  /** What is being tried behind a savepoint, or was when the transaction was lost. */
  private trying: readonly AppliedDocument[] | undefined
  /** Whether the transaction has come to what may be divided. */
  private isApplying = false

  constructor(mode: Mode = 'together') {
    this.mode = mode
  }

  /** Another try begins. */
  begin(): void {
    this.trying = undefined
    this.isApplying = false
  }

  applying(): void {
    this.isApplying = true
  }

  try(part: readonly AppliedDocument[] | undefined): void {
    this.trying = part
  }

  verdictOn(document: AppliedDocument): Verdict | undefined {
    return this.lost.get(keyOf(document))
  }

  /** How many of these, from the first on, are tried at once: none that lost it, nor as many as lost it together. */
  partOf(documents: readonly AppliedDocument[]): readonly AppliedDocument[] {
    const most = this.most.get(keyOf(documents[0] as AppliedDocument)) ?? documents.length
    const upTo = this.lost.size === 0 ? -1 : documents.findIndex((document) => this.lost.has(keyOf(document)))
    return documents.slice(0, upTo > 0 ? Math.min(most, upTo) : most)
  }

  /** Whether the transaction is to be tried again, more finely, after it failed with this. */
  learn(error: unknown, database: ApplyingDatabase): boolean {
    const fault = database.faultOf(error)
    if (this.trying !== undefined && fault !== undefined && fault !== 'cancelled') {
      const [first] = this.trying
      const { length } = this.trying
      if (length > 1) this.most.set(keyOf(first as AppliedDocument), Math.ceil(length / 2))
      else this.lost.set(keyOf(first as AppliedDocument), verdictOf(error, database))
      return true
    }
    if (!this.isApplying || this.mode === 'strict' || fault === undefined || fault === 'cancelled') return false
    this.mode = this.mode === 'together' ? 'apart' : 'strict'
    return true
  }
}

/** One transaction, run again as long as documents at fault are looked for. */
export async function dividing<T>(
  database: ApplyingDatabase,
  work: (division: Division) => Work<T>,
  mode: Mode = 'together',
  options: WriteOptions = {},
): Promise<T> {
  const division = new Division(mode)
  const attempt = () => {
    division.begin()
    return work(division)
  }
  for (;;) {
    try {
      return await database.write(attempt, options)
    } catch (error) {
      if (!division.learn(error, database)) throw error
    }
  }
}

/** Who is told what became of parts, as soon as it is known. */
export interface Outcome<T> {
  kept(result: T, part: readonly AppliedDocument[]): Work<void> | undefined
  failed(failed: Failed): Work<void> | undefined
}

/**
 * Applies documents in parts: half as many after a failure, twice as many after a success, so that one bad document among n costs some 2 log n attempts and all bad ones n.
 */
export function* divide<T>(
  database: ApplyingDatabase,
  division: Division,
  documents: readonly AppliedDocument[],
  attempt: (part: readonly AppliedDocument[]) => Work<T>,
  outcome: Outcome<T>,
): Work<void> {
  let hung = 0
  let size = documents.length
  for (let at = 0; at < documents.length; ) {
    const first = documents[at] as AppliedDocument
    const known = division.verdictOn(first) ?? (hung >= MOST_HUNG ? untried() : undefined)
    const part = known === undefined ? division.partOf(documents.slice(at, at + size)) : [first]
    const tried = known ?? (yield* tryPart(database, division, part, attempt))
    if ('result' in tried) {
      yield* outcome.kept(tried.result, part) ?? NOTHING
      at += part.length
      size = part.length * 2
    } else if (part.length > 1) size = Math.ceil(part.length / 2)
    else {
      yield* outcome.failed({ document: first, verdict: tried }) ?? NOTHING
      if (known !== undefined || tried.code === 'ERR_TIMEOUT') hung++
      at++
    }
  }
}

/** Tries a part behind a savepoint; says why it is at fault where it is. */
function* tryPart<T>(
  database: ApplyingDatabase,
  division: Division,
  part: readonly AppliedDocument[],
  attempt: (part: readonly AppliedDocument[]) => Work<T>,
): Work<Verdict | { readonly result: T }> {
  yield* run('SAVEPOINT sync_part')
  division.try(part)
  try {
    const result = yield* attempt(part.map((document) => document.again()))
    // Fails where a handler went on after a statement of its had failed.
    yield* run('RELEASE SAVEPOINT sync_part')
    division.try(undefined)
    return { result }
  } catch (thrown) {
    const verdict = verdictOf(thrown, database)
    yield* undo(thrown)
    division.try(undefined)
    return verdict
  }
}

/** A trigger of the host's may have ended the whole transaction (SQLite's RAISE(ROLLBACK)): then that is what failed. */
function* undo(thrown: unknown): Work<void> {
  try {
    yield* run('ROLLBACK TO SAVEPOINT sync_part')
  } catch {
    throw thrown
  }
  yield* run('RELEASE SAVEPOINT sync_part')
}

function untried(): Verdict {
  return {
    code: 'ERR_TIMEOUT',
    message: 'It was not tried: documents before it did not come to an end',
    hint: 'It is tried again by itself.',
    cause: 'other',
  }
}

function* run(sql: string): Work<void> {
  yield* query({ sql, parameters: [] })
}

function keyOf({ table, recordId, entries }: AppliedDocument): string {
  return `${table}\n${recordId}\n${entries[0]?.entryNo}`
}
