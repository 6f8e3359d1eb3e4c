import { TillsyncError } from '../errors.ts'
import type { AnyTables, AudienceFilter, AudienceRegister, AudienceRules, PublishRules } from '../model.ts'
import { isRecord } from '../options.ts'
import type { CapturingDatabase } from '../ports.ts'
import { checkFilters } from './filters.ts'
import { type RootSpec, readRules } from './rules.ts'

/** A root table that central publishes, and for whom. */
export interface AudienceSpec {
  /** What is sealed of it, whoever gets it. */
  readonly root: RootSpec
  readonly where: AudienceFilter<AnyTables, string> | undefined
  /** Key columns that hold the register whose a document is: they are not sent. */
  readonly origin: readonly string[]
}

const ROOT_OPTIONS = ['where', 'only', 'except', 'dependsOn', 'origin']
const ORIGIN = ['location', 'register']

/**
 * The rules of what central publishes, by root table.
 *
 * @throws ERR_OPTION, ERR_RULE
 */
export function readAudienceRules(publish: AudienceRules<AnyTables>): ReadonlyMap<string, AudienceSpec> {
  const plain = new Map<string, unknown>()
  const audiences = new Map<string, Pick<AudienceSpec, 'where' | 'origin'>>()
  for (const [table, rule] of Object.entries(publish as Record<string, unknown>)) {
    if (!isRecord(rule) || 'partOf' in rule) {
      plain.set(table, rule)
      continue
    }
    const { where, origin, ...rest } = rule as { where?: unknown; origin?: unknown }
    const odd = Object.keys(rule).find((option) => !ROOT_OPTIONS.includes(option))
    if (odd !== undefined)
      throw bad(`\`publish.${table}.${odd}\` is not an option of a root that central publishes`, `Known here: ${ROOT_OPTIONS.join(', ')}.`)
    if (where !== undefined && typeof where !== 'function')
      throw bad(
        `Expected \`publish.${table}.where\` to be a function, got ${typeof where}`,
        "where: (eb, register) => eb('location', '=', register.location)",
      )
    if (origin !== undefined && !(Array.isArray(origin) && origin.length === 2 && ORIGIN.every((name, at) => origin[at] === name)))
      throw bad(
        `Expected \`publish.${table}.origin\` to be ['location', 'register']`,
        'These two columns belong to the primary key; they say whose a document is.',
      )
    // Each register is sent all that stands there; whether it has it already central knows.
    plain.set(table, { ...rest, existing: 'all' })
    audiences.set(table, { where: where as AudienceSpec['where'], origin: (origin as readonly string[] | undefined) ?? [] })
  }
  const specs = new Map<string, AudienceSpec>()
  for (const root of readRules(Object.fromEntries(plain) as PublishRules<AnyTables>)) {
    const own = audiences.get(root.table) as Pick<AudienceSpec, 'where' | 'origin'>
    specs.set(root.table, { root: { ...root, isFiltered: own.where !== undefined }, ...own })
  }
  return specs
}

/** A register that there is not: what a filter makes of it shows what the filter reads. */
const ANYBODY: AudienceRegister = { location: '', register: '', attributes: {} }

/**
 * What the filters name must be named by the rules. One that throws for want of attributes tells nothing yet; it is tried for each register.
 *
 * @throws ERR_FILTER
 */
export function checkAudienceFilters(database: CapturingDatabase, specs: Iterable<AudienceSpec>): void {
  for (const { root, where } of specs) {
    if (where === undefined) continue
    let isSure = true
    const tried: RootSpec['where'] = (eb) => {
      try {
        return where(eb, ANYBODY)
      } catch {
        isSure = false
        return eb.lit(true)
      }
    }
    try {
      checkFilters(database, [{ ...root, where: tried }])
    } catch (error) {
      if (isSure) throw error
    }
  }
}

function bad(message: string, hint: string): TillsyncError {
  return new TillsyncError('ERR_OPTION', message, { hint })
}
