import { messageOf, TillsyncError } from '../../errors.ts'
import type { HostTable } from '../../host-table.ts'
import { query, type Work } from '../../work.ts'
import { classify, DENIED, isFinal, OWNERSHIP } from './errors.ts'
import { LOCK_BRIEFLY } from './reading.ts'
import { quote } from './tables.ts'
import {
  createFunction,
  createTrigger,
  FUNCTIONS,
  functionBody,
  functionName,
  type NumberedSource,
  TOUCHES,
  TRIGGERS,
  type TriggerName,
  UNSET,
} from './triggers.ts'

/** How a table is locked: against writers, which is enough to make a trigger, or against readers too, as to drop one it must be. */
export type LockMode = 'SHARE ROW EXCLUSIVE' | 'ACCESS EXCLUSIVE'
/** Tables that are to be locked. */
export type Locks = ReadonlyMap<string, LockMode>

/**
 * Thrown by work that is about to change triggers: the adapter runs it again with these tables locked before its snapshot is
 * taken, so that what is read then is all that was written without them. As strongly as need be at once: who waits for the stronger
 * lock while he has the weaker one may be in the way of a host that waits for him, and that PostgreSQL may then end.
 */
export class LockFirst extends Error {
  readonly tables: Locks

  constructor(tables: Locks) {
    super('Tables must be locked first')
    this.tables = tables
  }
}

/** A table or partition on which triggers belong. */
interface Place {
  readonly oid: string
  readonly name: string
  /** The table of the rules that it is, or is a partition of. */
  readonly root: string
  readonly partition: boolean
  readonly inherited: boolean
  /** A trigger of the host's that is called as one of ours. */
  readonly taken: string | null
  /** Whether we may make triggers there. */
  readonly owned: boolean
  /** Whether we may lock it against writers, which is enough to change what triggers run. */
  readonly lockable: boolean
  readonly locked: boolean
}

interface Present {
  readonly oid: string
  readonly on: string
  readonly name: string
  readonly type: number
  readonly enabled: string
  readonly runs: string
  readonly cloned: boolean
  /** Whether we may drop it. */
  readonly owned: boolean
  /** Whether its table is locked as it must be to drop it. */
  readonly locked: boolean
}

/** The tables with their partitions; foreign ones have no triggers of ours. */
const PLACES = `
  WITH RECURSIVE places AS (
    SELECT c.oid, c.relname::text AS root, c.relkind, false AS partition
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = ANY($2::text[]) AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT c.oid, p.root, c.relkind, true
    FROM places p JOIN pg_inherits i ON i.inhparent = p.oid JOIN pg_class c ON c.oid = i.inhrelid WHERE p.relkind = 'p' AND c.relkind IN ('r', 'p'))
  SELECT p.oid::text, format('%I.%I', n.nspname, c.relname) AS name, p.root, p.partition,
         p.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = p.oid) AS inherited,
         (SELECT t.tgname::text FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid WHERE t.tgrelid = p.oid AND t.tgname = ANY($3::text[])
            AND NOT starts_with(f.proname, '${FUNCTIONS}') AND strpos(f.prosrc, '${TOUCHES}') = 0 LIMIT 1) AS taken,
         pg_has_role(c.relowner, 'USAGE') AS owned, has_table_privilege(p.oid, 'UPDATE, DELETE, TRUNCATE') AS lockable,
         EXISTS (SELECT FROM pg_locks l WHERE l.relation = p.oid AND l.pid = pg_backend_pid() AND l.granted
                 AND l.mode IN ('ShareRowExclusiveLock', 'AccessExclusiveLock')) AS locked
  FROM places p JOIN pg_class c ON c.oid = p.oid JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY p.partition, p.oid`

const PRESENT = `
  SELECT t.tgrelid::text AS oid, format('%I.%I', n.nspname, c.relname) AS "on", t.tgname::text AS name, t.tgtype AS type, t.tgenabled::text AS enabled,
         p.proname::text AS runs, t.tgparentid <> 0 AS cloned, pg_has_role(c.relowner, 'USAGE') AS owned,
         EXISTS (SELECT FROM pg_locks l WHERE l.relation = t.tgrelid AND l.pid = pg_backend_pid() AND l.granted AND l.mode = 'AccessExclusiveLock') AS locked
  FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace f ON f.oid = p.pronamespace
  JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE f.nspname = $1 AND starts_with(p.proname, '${FUNCTIONS}') AND strpos(p.prosrc, '${TOUCHES}') > 0`

/** One that runs as somebody who may not touch, or under another search path, is not ours whatever its body. */
const BODIES = `
  SELECT p.proname::text AS name,
         CASE WHEN p.prosecdef AND (CASE WHEN strpos(p.prosrc, '\n-- ${UNSET};') > 0 THEN p.proconfig IS NULL
                                         ELSE 'search_path=pg_catalog, pg_temp' = ANY (p.proconfig) END)
              AND has_table_privilege(p.proowner, to_regclass(format('%I.${TOUCHES}', $1::text)), 'INSERT') THEN p.prosrc END AS body
  FROM pg_proc p JOIN pg_namespace f ON f.oid = p.pronamespace
  WHERE f.nspname = $1 AND starts_with(p.proname, '${FUNCTIONS}') AND strpos(p.prosrc, '${TOUCHES}') > 0`

/** What must be done so that exactly the wanted triggers are there. */
interface Difference {
  /** The tables on which something is missing. */
  readonly changed: ReadonlySet<string>
  /** Those that have none of ours, as far as they are no partitions. */
  readonly bare: ReadonlySet<string>
  /** Those that are not locked yet as they must be. */
  readonly unlocked: Locks
  readonly changes: readonly Change[]
}

interface Change {
  /** Whose triggers it makes; undefined where it takes away what nothing asks for any more. */
  readonly table?: string
  readonly sql: string
}

/** What was done, and the tables whose triggers could not be made. */
export interface Brought extends Difference {
  readonly refused: ReadonlyMap<string, TillsyncError>
}

const run = (sql: string): Work<readonly unknown[]> => query({ sql, parameters: [] })

/** The triggers of one schema's tables, as they are and as they should be. */
export class Installation {
  private readonly schema: string

  constructor(schema: string) {
    this.schema = schema
  }

  /** What `bring` comes to where all triggers are to be made anew. */
  *lockFirst(tables: readonly string[]): Work<void> {
    const places = yield* this.places(tables)
    const unlocked = places.filter(({ partition, locked }) => !partition && !locked)
    if (unlocked.length > 0) throw new LockFirst(strongest(unlocked.map(({ name }) => [name, 'SHARE ROW EXCLUSIVE'])))
  }

  /** Makes exactly these triggers. What the database refuses to make is left as it is, and said. */
  *bring(sources: ReadonlyMap<string, readonly NumberedSource[]>, tables: ReadonlyMap<string, HostTable>, untouched: boolean): Work<Brought> {
    const difference = yield* this.compare(sources, tables, untouched)
    const { unlocked, changes } = difference
    if (unlocked.size > 0) throw new LockFirst(unlocked)
    const refused = new Map<string, TillsyncError>()
    if (changes.length === 0 || (yield* attempt(changes)) === undefined) return { ...difference, refused }
    for (const [table, own] of Map.groupBy(changes, (change) => change.table)) {
      const error = yield* attempt(own)
      // Triggers on what is published no more lead nowhere.
      if (error !== undefined && table !== undefined) refused.set(table, error)
    }
    return { ...difference, refused }
  }

  /** What there is against what there should be; changes nothing. With `untouched` all is made anew, because there was nowhere to note a touch. */
  *compare(sources: ReadonlyMap<string, readonly NumberedSource[]>, tables: ReadonlyMap<string, HostTable>, untouched: boolean): Work<Difference> {
    const places = yield* this.places([...sources.keys()])
    refuseInherited(places)
    refuseTwice(places)
    refuseTaken(places)
    const present = yield* this.present()
    const bodies = new Map((yield* this.bodies()).map(({ name, body }) => [name, body]))
    const other = new Map<string, string>()
    for (const [name, own] of sources) {
      const table = tables.get(name) as HostTable
      const partitions = places.filter(({ root, partition }) => partition && root === name).map(({ oid }) => oid)
      const body = functionBody(table, own, this.qualify(TOUCHES), partitions)
      // Where there was nowhere to note a touch, sessions may keep a plan that notes none; another function ends it.
      if (untouched || bodies.get(functionName(name)) !== body) other.set(name, createFunction(this.qualify(functionName(name)), table, own, body))
    }
    // A partition of another role's has the row trigger of its table by itself; what else is missing there nobody can make.
    const within = places.filter(({ partition, owned }) => owned || !partition)
    const missing = within.flatMap((place) => missingOn(place, present).map((trigger) => ({ place, trigger })))
    const unwanted = present.filter(
      ({ oid, runs, cloned }) => !cloned && !places.some((place) => place.oid === oid && functionName(place.root) === runs),
    )
    const surplus = unwanted.filter(({ owned }) => owned)
    const changed = new Set([...missing.map(({ place }) => place.root), ...other.keys()])
    refuseForeign(within.filter((place) => changed.has(place.root) && (!place.lockable || missingOn(place, present).length > 0)))
    // What is on a table of others stays there with what it runs: its touches lead nowhere.
    const functions = new Set([...[...sources.keys()].map(functionName), ...unwanted.filter(({ owned }) => !owned).map(({ runs }) => runs)])
    const bare = places.filter(({ oid, partition }) => !partition && !present.some((trigger) => trigger.oid === oid))
    return {
      changed,
      bare: new Set(bare.map(({ root }) => root)),
      unlocked: strongest(
        places.filter(({ root, partition, locked }) => changed.has(root) && !partition && !locked).map(({ name }) => [name, 'SHARE ROW EXCLUSIVE']),
        surplus.filter(({ locked }) => !locked).map(({ on }) => [on, 'ACCESS EXCLUSIVE']),
      ),
      changes: [
        ...[...other].map(([table, sql]) => ({ table, sql })),
        ...missing.flatMap(({ place, trigger }) => this.mend(place, trigger, present).map((sql) => ({ table: place.root, sql }))),
        ...surplus.map((trigger) => ({ sql: dropTrigger(trigger) })),
        ...[...bodies.keys()].filter((name) => !functions.has(name)).map((name) => ({ sql: `DROP FUNCTION ${this.qualify(name)}()` })),
      ],
    }
  }

  *removeTriggers(): Work<void> {
    const own = (yield* this.present()).filter(({ cloned }) => !cloned)
    if (own.length > 0) yield* run(LOCK_BRIEFLY)
    for (const trigger of own) yield* run(dropTrigger(trigger))
  }

  *removeFunctions(): Work<void> {
    for (const { name } of yield* this.bodies()) yield* run(`DROP FUNCTION ${this.qualify(name)}()`)
  }

  private places(tables: readonly string[]): Work<readonly Place[]> {
    return query<Place>({ sql: PLACES, parameters: [this.schema, tables, Object.keys(TRIGGERS)] })
  }

  private present(): Work<readonly Present[]> {
    return query<Present>({ sql: PRESENT, parameters: [this.schema] })
  }

  private bodies(): Work<readonly { name: string; body: string | null }[]> {
    return query<{ name: string; body: string | null }>({ sql: BODIES, parameters: [this.schema] })
  }

  /** A row trigger of a partition is a clone of its table's; it can only be enabled. */
  private mend(place: Place, trigger: TriggerName, present: readonly Present[]): readonly string[] {
    const [create, enable] = createTrigger(trigger, place.name, this.qualify(functionName(place.root))) as [string, string]
    if (!place.partition || trigger !== 'sync_touch') return [create, enable]
    return present.some((one) => one.oid === place.oid && one.name === trigger) ? [enable] : []
  }

  private qualify(name: string): string {
    return `${quote(this.schema)}.${quote(name)}`
  }
}

/** All of it, or nothing: then why. */
function* attempt(changes: readonly Change[]): Work<TillsyncError | undefined> {
  try {
    yield* run([LOCK_BRIEFLY, 'SAVEPOINT sync_triggers', ...changes.map(({ sql }) => sql), 'RELEASE SAVEPOINT sync_triggers'].join(';\n'))
    return undefined
  } catch (thrown) {
    if (isFinal(thrown)) throw thrown
    yield* run('ROLLBACK TO SAVEPOINT sync_triggers; RELEASE SAVEPOINT sync_triggers')
    const tables = [...new Set(changes.flatMap(({ table }) => (table === undefined ? [] : [table])))]
    const { context, hint = REFUSED } = classify(thrown, '')
    const message = `The triggers of ${tables.map((table) => `\`${table}\``).join(', ')} can't be made: ${messageOf(thrown)}`
    return new TillsyncError('ERR_DATABASE', message, { hint, context: { ...context, table: tables[0] }, cause: thrown })
  }
}

const REFUSED = 'Where a trigger on DDL refuses it, let it except the role of the pool. It is tried again by itself.'

/** Each table as strongly as any of these asks for. */
export function strongest(...all: readonly Iterable<readonly [string, LockMode]>[]): Locks {
  const locks = new Map<string, LockMode>()
  for (const [name, mode] of all.flatMap((some) => [...some])) if (locks.get(name) !== 'ACCESS EXCLUSIVE') locks.set(name, mode)
  return locks
}

function dropTrigger({ name, on }: Present): string {
  return `DROP TRIGGER ${quote(name)} ON ${on}`
}

function missingOn(place: Place, present: readonly Present[]): TriggerName[] {
  const own = present.filter(({ oid, runs }) => oid === place.oid && runs === functionName(place.root))
  return (Object.keys(TRIGGERS) as TriggerName[]).filter((name) => {
    const found = own.find((trigger) => trigger.name === name)
    return found?.type !== TRIGGERS[name].type || found.enabled !== 'A'
  })
}

function refuseInherited(places: readonly Place[]): void {
  const parent = places.find((place) => place.inherited)
  if (parent === undefined) return
  throw new TillsyncError('ERR_INHERITANCE', `\`${parent.root}\` has tables that inherit from it, whose triggers would not fire`, {
    hint: 'Publish the inheriting tables themselves, or use partitions.',
    context: { table: parent.root },
  })
}

/** Who does not own a table can't change its triggers. */
function refuseForeign(changed: readonly Place[]): void {
  const place = changed.find(({ owned }) => !owned)
  if (place === undefined) return
  throw new TillsyncError('ERR_DATABASE', `${place.name} belongs to another role, and its triggers are missing or not those of these rules`, {
    hint: OWNERSHIP,
    context: { table: place.root, sqlState: DENIED },
  })
}

/** A partition has the triggers of its table, and can have no others by these names. */
function refuseTwice(places: readonly Place[]): void {
  const twice = places.find(({ oid, partition }) => partition && places.some((other) => !other.partition && other.oid === oid))
  if (twice === undefined) return
  throw new TillsyncError('ERR_INHERITANCE', `${twice.name} is a partition of \`${twice.root}\`, and both are in the rules`, {
    hint: 'Leave the partition out: its records are published with those of its table.',
    context: { table: twice.root },
  })
}

/** It would be replaced, and the host would go without it. */
function refuseTaken(places: readonly Place[]): void {
  const place = places.find(({ taken }) => taken !== null)
  if (place === undefined) return
  throw new TillsyncError('ERR_RULE', `${place.name} has a trigger of its own that is called \`${place.taken}\`, as the library's is`, {
    hint: `Give it another name: ALTER TRIGGER ${place.taken} ON ${place.name} RENAME TO …`,
    context: { table: place.root },
  })
}
