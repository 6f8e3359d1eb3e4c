import type { Random } from '../random.ts'
import { list, q, type Schema, type Table, text, writable } from './model.ts'

export interface HostTrigger {
  readonly name: string
  readonly on: string
  readonly sql: readonly string[]
}

/** A trigger of the host that changes the row itself, others of its document, or another table, or refuses a change; undefined where the tables have nothing for it. */
export function postgresTrigger(random: Random, schema: Schema): HostTrigger | undefined {
  const table = random.pick(schema.tables.filter(({ aside }) => !aside))
  for (const make of random.shuffle([countParts, ownRow, another, log, cascade, follow, purge, refuse, adopt])) {
    const made = make(random, schema, table)
    if (made === undefined) continue
    // By their names they fire before or after the library's.
    const name = `${random.pick(['a', 'z'])} ${schema.triggers.length}`
    // Deferred ones that fire themselves again do so for ever: at the commit their depth stays 1, and no timeout ends it.
    const ends = make === countParts || make === log
    const deferred = ends && made.when.startsWith('AFTER') && !made.statement && table.partitions.length === 0 && random.chance(0.4)
    const kind = deferred ? 'CONSTRAINT TRIGGER' : 'TRIGGER'
    const when = `${made.when} ON ${q(table.name)}${deferred ? ' DEFERRABLE INITIALLY DEFERRED' : ''} FOR EACH ${made.statement ? 'STATEMENT' : 'ROW'}`
    const body = `BEGIN IF pg_trigger_depth() > 2 THEN RETURN coalesce(NEW, OLD); END IF; ${made.body}; RETURN coalesce(NEW, OLD); END`
    return {
      name,
      on: table.name,
      sql: [
        `CREATE FUNCTION ${q(`f ${name}`)}() RETURNS trigger LANGUAGE plpgsql AS $f$ ${made.statement ? `BEGIN ${made.body}; RETURN NULL; END` : body} $f$`,
        `CREATE ${kind} ${q(name)} ${when} EXECUTE FUNCTION ${q(`f ${name}`)}()`,
      ],
    }
  }
  return undefined
}

interface Made {
  readonly when: string
  readonly body: string
  readonly statement?: boolean
}

type Make = (random: Random, schema: Schema, table: Table) => Made | undefined

function numberOf(table: Table): string | undefined {
  return writable(table).find(
    ({ kind, name, extra }) => kind === 'integer' && extra === undefined && !table.key.includes(name) && !table.parent?.own.includes(name),
  )?.name
}

function statusOf(table: Table): string | undefined {
  return table.columns.find(({ kind }) => kind === 'status')?.name
}

function same(own: readonly string[], row: string, others: readonly string[]): string {
  return own.map((name, n) => `${q(name)} = ${row}.${q(others[n] as string)}`).join(' AND ')
}

const countParts: Make = (random, _schema, { name, parent }) => {
  const number = parent && numberOf(parent.table)
  if (parent === undefined || number === undefined) return undefined
  const [event, row] = random.pick([
    ['INSERT', 'NEW'],
    ['DELETE', 'OLD'],
    ['UPDATE', 'NEW'],
  ] as const)
  return {
    when: `AFTER ${event}`,
    body: `UPDATE ${q(parent.table.name)} SET ${q(number)} = (SELECT count(*) FROM ${q(name)} AS p WHERE ${same(parent.own, row, parent.own)}) WHERE ${same(parent.others, row, parent.own)}`,
  }
}

const ownRow: Make = (random, _schema, table) => {
  const [number, status] = [numberOf(table), statusOf(table)]
  if (number === undefined || status === undefined) return undefined
  return {
    when: random.pick(['BEFORE INSERT', 'BEFORE UPDATE', 'BEFORE INSERT OR UPDATE']),
    body: random.pick([`NEW.${q(number)} := coalesce(NEW.${q(number)}, 0) % 5 + 1`, `NEW.${q(status)} := lower(NEW.${q(status)})`]),
  }
}

/** The same row once more, after it was changed. */
const another: Make = (random, _schema, table) => {
  const number = numberOf(table)
  if (number === undefined) return undefined
  return {
    when: random.pick(['AFTER INSERT', 'AFTER UPDATE']),
    body: `UPDATE ${q(table.name)} SET ${q(number)} = coalesce(${q(number)}, 0) + 1 WHERE ${same(table.key, 'NEW', table.key)} AND coalesce(${q(number)}, 0) < 9`,
  }
}

const log: Make = (random, schema, table) => {
  const aside = schema.tables.find((one) => one.aside)
  if (aside === undefined) return undefined
  const when = random.pick(['AFTER INSERT', 'AFTER UPDATE', 'BEFORE DELETE', 'BEFORE INSERT', 'BEFORE UPDATE'])
  return { when, body: `INSERT INTO ${q(aside.name)} ("n") VALUES (1)`, statement: table.partitions.length === 0 && random.chance(0.3) }
}

/** What foreign keys would do, by hand. */
const cascade: Make = (_random, schema, table) => {
  const part = schema.tables.find(({ parent }) => parent?.table === table)
  if (part?.parent === undefined) return undefined
  return { when: 'AFTER DELETE', body: `DELETE FROM ${q(part.name)} WHERE ${same(part.parent.own, 'OLD', part.parent.others)}` }
}

const follow: Make = (_random, schema, table) => {
  const part = schema.tables.find(({ parent }) => parent?.table === table)
  if (part?.parent === undefined) return undefined
  const { own, others } = part.parent
  const set = own.map((name, n) => `${q(name)} = NEW.${q(others[n] as string)}`).join(', ')
  return { when: `AFTER UPDATE OF ${list(others)}`, body: `UPDATE ${q(part.name)} SET ${set} WHERE ${same(own, 'OLD', others)}` }
}

const purge: Make = (random, _schema, table) => {
  const status = statusOf(table)
  if (status === undefined) return undefined
  return {
    when: random.pick(['BEFORE INSERT', 'AFTER INSERT', 'AFTER UPDATE']),
    body: `DELETE FROM ${q(table.name)} WHERE ${q(status)} = 'void'`,
    statement: random.chance(0.5),
  }
}

const refuse: Make = (random, _schema, table) => {
  const status = statusOf(table)
  if (status === undefined) return undefined
  const [event, row] = random.pick([
    ['INSERT', 'NEW'],
    ['UPDATE', 'NEW'],
    ['DELETE', 'OLD'],
  ] as const)
  const quietly = random.chance(0.5)
  const how = quietly ? 'RETURN NULL' : `RAISE EXCEPTION ${text('no')}`
  return { when: `${quietly ? 'BEFORE' : random.pick(['BEFORE', 'AFTER'])} ${event}`, body: `IF ${row}.${q(status)} = 'Posted' THEN ${how}; END IF` }
}

/** A part without its record makes it. */
const adopt: Make = (_random, _schema, { parent }) => {
  if (parent === undefined || parent.table.columns.some((column) => column.volatile)) return undefined
  const values = parent.own.map((own) => `NEW.${q(own)}`).join(', ')
  return { when: 'BEFORE INSERT', body: `INSERT INTO ${q(parent.table.name)} (${list(parent.others)}) VALUES (${values}) ON CONFLICT DO NOTHING` }
}
