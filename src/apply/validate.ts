import { messageOf, TillsyncError } from '../errors.ts'
import type { AnyDocument, Document, RegisterName, TableName } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import type { Work } from '../work.ts'
import type { AppliedDocument, Origin } from './document-set.ts'
import type { Failed } from './quarantine-division.ts'
import { text, type Verdict } from './quarantine-verdict.ts'

/** What is wrong with a document. It goes to quarantine with it. */
export interface Problem {
  /** Default 'ERR_INVALID'. */
  readonly code?: string | undefined
  readonly message: string
  /** What to do about it. */
  readonly hint?: string | undefined
}

/** The host's own check: a pure function of a document and of the register that sent it. Returns what is wrong, or nothing. */
export type Validation<D = AnyDocument> = (document: D, origin: RegisterName) => Problem | null | undefined

/** What a check of the library is asked about. */
export interface CheckContext {
  readonly database: ApplyingDatabase
  readonly table: string
  readonly origin: Origin
}

/** A problem whose cause may go when other documents come. */
export interface FoundProblem extends Problem {
  readonly waits?: boolean
}

/** Made by `balanced()`, `knownItems()`, `openPeriod()`. */
export interface Check<D = AnyDocument> {
  readonly name: string
  /** Only in types: the documents that it takes. */
  readonly takes?: (document: D) => void
  /** Looks at what it needs of the host's tables. @throws ERR_UNKNOWN_TABLE, ERR_UNKNOWN_COLUMN */
  check(database: ApplyingDatabase, table: string): Work<void>
  /** What is wrong with each of the documents; undefined where nothing is. */
  problems(documents: readonly AppliedDocument[], context: CheckContext): Work<readonly (FoundProblem | undefined)[]>
}

/** A column of the root record. */
export type RootColumn<D> = Exclude<keyof D & string, 'parts'>
type PartsOf<D> = D extends { readonly parts: infer P } ? P : never
type PartColumn<D, P extends keyof PartsOf<D>> = PartsOf<D>[P] extends readonly (infer R)[] ? keyof R & string : never
/** A column of parts, by their tables. */
export type ColumnByPart<D> = { readonly [P in keyof PartsOf<D> & string]?: PartColumn<D, P> }
/** One or several columns of parts, by their tables. */
export type ColumnsByPart<D> = { readonly [P in keyof PartsOf<D> & string]?: PartColumn<D, P> | readonly PartColumn<D, P>[] }

/** Checks by root table: one, or several that are asked in order. */
export type ValidateRules<Sent> = {
  readonly [T in TableName<Sent>]?:
    | Validation<Document<Sent, T>>
    | Check<Document<Sent, T>>
    | readonly (Validation<Document<Sent, T>> | Check<Document<Sent, T>>)[]
}

export type ChecksByTable = ReadonlyMap<string, readonly (Validation | Check)[]>

/** @throws ERR_OPTION, ERR_RULE where a table has no handler */
export function readChecks(validate: Readonly<Record<string, unknown>>, tables: ReadonlySet<string>): ChecksByTable {
  const checks = new Map<string, readonly (Validation | Check)[]>()
  for (const [table, given] of Object.entries(validate)) {
    if (given === undefined) continue
    const all = (Array.isArray(given) ? given : [given]) as (Validation | Check)[]
    const other = all.find((check) => typeof check !== 'function' && !(typeof check?.problems === 'function' && typeof check.check === 'function'))
    if (other !== undefined || all.includes(undefined as never)) {
      throw new TillsyncError(
        'ERR_OPTION',
        `Expected \`validate.${table}\` to be a check or a list of checks, got ${other === null ? 'null' : typeof other}`,
        {
          hint: 'A check is a function of the document, or made by balanced(), knownItems() or openPeriod().',
          context: { table },
        },
      )
    }
    if (!tables.has(table)) {
      throw new TillsyncError('ERR_RULE', `\`validate.${table}\` names a table for which \`subscribe\` has no handler`, {
        hint: 'What has no handler is archived only: there is nothing that could be kept from it.',
        context: { table },
      })
    }
    checks.set(table, all)
  }
  return checks
}

/** Documents with which something is wrong, each with the first thing that is; of a removal that came behind a waiting version, with that version. */
export function* refusedBy(
  database: ApplyingDatabase,
  checks: readonly (Validation | Check)[],
  documents: readonly AppliedDocument[],
  origin: Origin,
): Work<readonly Failed[]> {
  const refused: Failed[] = []
  let left = documents
  for (const check of checks) {
    const asked = left.map((document) => document.before ?? document)
    if (asked.length === 0) break
    const context: CheckContext = { database, table: (asked[0] as AppliedDocument).table, origin }
    const found = typeof check === 'function' ? asked.map((document) => problemOf(check, document, origin)) : yield* check.problems(asked, context)
    for (const [n, problem] of found.entries()) if (problem) refused.push({ document: left[n] as AppliedDocument, verdict: asVerdict(problem) })
    left = left.filter((_, n) => !found[n])
  }
  return refused
}

/** What the host's function returns; that it throws, or returns nonsense, is a problem too. */
function problemOf(check: Validation, document: AppliedDocument, { location, register }: Origin): FoundProblem | undefined {
  let found: unknown
  try {
    found = check(document.again().value as AnyDocument, { location, register })
  } catch (thrown) {
    return { code: 'ERR_HANDLER', message: `A check threw: ${messageOf(thrown)}`, hint: 'A check returns what is wrong.' }
  }
  if (found === undefined || found === null) return undefined
  if (typeof found === 'object' && 'message' in found && typeof found.message === 'string') return found as Problem
  if (found instanceof Promise) found.catch(() => undefined)
  return {
    code: 'ERR_HANDLER',
    message: `A check returned ${found instanceof Promise ? 'a promise' : `no problem, but ${typeof found}`}`,
    hint: 'It returns { code?, message, hint? } or nothing, at once.',
  }
}

function asVerdict({ code, message, hint, waits }: FoundProblem): Verdict {
  return {
    code: typeof code === 'string' && code !== '' ? text(code).slice(0, 100) : 'ERR_INVALID',
    message: text(message),
    hint: typeof hint === 'string' ? text(hint) : undefined,
    cause: waits ? 'missing' : 'other',
  }
}
