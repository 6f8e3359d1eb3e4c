import type { Random } from '../random.ts'
import { list, q, type Schema, type Table, text, writable } from './model.ts'

/** A trigger of the host that changes the row itself, others of its document, or another table, or refuses a change; undefined where the tables have nothing for it. */
export function sqliteTrigger(random: Random, schema: Schema): { name: string; on: string; sql: string } | undefined {
  const table = random.pick(schema.tables.filter(({ aside }) => !aside))
  const body = random.shuffle([countParts, ownRow, log, cascade, follow, purge, refuse, adopt])
  for (const make of body) {
    const made = make(random, schema, table)
    if (made === undefined) continue
    const name = `t ${schema.triggers.length} ${table.name}`
    return { name, on: table.name, sql: `CREATE TRIGGER ${q(name)} ${made}` }
  }
  return undefined
}

type Make = (random: Random, schema: Schema, table: Table) => string | undefined

function numberOf(table: Table): string | undefined {
  return writable(table).find(
    ({ kind, name, extra }) => kind === 'integer' && extra === undefined && !table.key.includes(name) && !table.parent?.own.includes(name),
  )?.name
}

function same(own: readonly string[], row: string, others: readonly string[]): string {
  return own.map((name, n) => `${q(name)} IS ${row}.${q(others[n] as string)}`).join(' AND ')
}

const countParts: Make = (random, _schema, { name, parent }) => {
  const number = parent && numberOf(parent.table)
  if (parent === undefined || number === undefined) return undefined
  const [event, row] = random.pick([
    ['INSERT', 'NEW'],
    ['DELETE', 'OLD'],
    ['UPDATE', 'NEW'],
  ] as const)
  return `AFTER ${event} ON ${q(name)} BEGIN UPDATE ${q(parent.table.name)} SET ${q(number)} = (SELECT count(*) FROM ${q(name)} AS p WHERE ${same(parent.own, row, parent.own)}) WHERE ${same(parent.others, row, parent.own)}; END`
}

const ownRow: Make = (random, _schema, table) => {
  const number = numberOf(table)
  if (number === undefined) return undefined
  const is = same(table.key, 'NEW', table.key)
  const set = `UPDATE ${q(table.name)} SET ${q(number)} = coalesce(${q(number)}, 0) + 1 WHERE ${is}`
  return random.chance(0.5)
    ? `AFTER INSERT ON ${q(table.name)} WHEN NEW.${q(number)} IS NULL BEGIN ${set}; END`
    : `AFTER UPDATE ON ${q(table.name)} WHEN NEW.${q(number)} IS OLD.${q(number)} AND typeof(NEW.${q(number)}) = 'integer' AND NEW.${q(number)} < 9 BEGIN ${set}; END`
}

const log: Make = (random, schema, table) => {
  const aside = schema.tables.find((one) => one.aside)
  if (aside === undefined) return undefined
  const when = random.pick(['AFTER INSERT', 'AFTER UPDATE', 'BEFORE DELETE', 'BEFORE INSERT', 'BEFORE UPDATE'])
  return `${when} ON ${q(table.name)} BEGIN INSERT INTO ${q(aside.name)} ("n") VALUES (1); UPDATE ${q(aside.name)} SET "n" = "n" + 1 WHERE "id" % 2 = 0; END`
}

/** What foreign keys would do, by hand. */
const cascade: Make = (_random, schema, table) => {
  const part = schema.tables.find(({ parent }) => parent?.table === table)
  if (part?.parent === undefined) return undefined
  return `AFTER DELETE ON ${q(table.name)} BEGIN DELETE FROM ${q(part.name)} WHERE ${same(part.parent.own, 'OLD', part.parent.others)}; END`
}

const follow: Make = (_random, schema, table) => {
  const part = schema.tables.find(({ parent }) => parent?.table === table)
  if (part?.parent === undefined) return undefined
  const { own, others } = part.parent
  const set = own.map((name, n) => `${q(name)} = NEW.${q(others[n] as string)}`).join(', ')
  return `AFTER UPDATE OF ${list(others)} ON ${q(table.name)} BEGIN UPDATE OR IGNORE ${q(part.name)} SET ${set} WHERE ${same(own, 'OLD', others)}; END`
}

/** Never before an UPDATE or a DELETE: what becomes of a row that is changed then is undefined (https://www.sqlite.org/lang_createtrigger.html), up to a corrupt table. */
const purge: Make = (random, _schema, table) => {
  const status = table.columns.find(({ kind }) => kind === 'status')
  if (status === undefined) return undefined
  return `${random.pick(['BEFORE INSERT', 'AFTER INSERT', 'AFTER UPDATE'])} ON ${q(table.name)} BEGIN DELETE FROM ${q(table.name)} WHERE ${q(status.name)} = 'void'; END`
}

/** RAISE(IGNORE) stands before the change only: after it, it ends the triggers that would have come, ours among them. */
const refuse: Make = (random, _schema, table) => {
  const status = table.columns.find(({ kind }) => kind === 'status')
  if (status === undefined) return undefined
  const how = random.pick(['IGNORE', `ABORT, ${text('no')}`, `FAIL, ${text('no')}`, `ROLLBACK, ${text('no')}`])
  const [event, row] = random.pick([
    ['INSERT', 'NEW'],
    ['UPDATE', 'NEW'],
    ['DELETE', 'OLD'],
  ] as const)
  const timing = how === 'IGNORE' ? 'BEFORE' : random.pick(['BEFORE', 'AFTER'])
  return `${timing} ${event} ON ${q(table.name)} WHEN ${row}.${q(status.name)} = 'Posted' BEGIN SELECT RAISE(${how}); END`
}

/** A part without its record makes it. Not where a foreign key says so too: SQLite does not always notice that such an INSERT OR IGNORE failed, and lets the part in. */
const adopt: Make = (random, _schema, { name, parent }) => {
  if (parent === undefined || parent.foreign !== undefined || parent.table.columns.some((column) => column.volatile)) return undefined
  const values = parent.own.map((own) => `NEW.${q(own)}`).join(', ')
  return `BEFORE INSERT ON ${q(name)} BEGIN INSERT OR ${random.pick(['IGNORE', 'REPLACE'])} INTO ${q(parent.table.name)} (${list(parent.others)}) VALUES (${values}); END`
}
