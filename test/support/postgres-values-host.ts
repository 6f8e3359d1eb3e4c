import type pg from 'pg'
import type { AnyTables, PublishRules } from '../../src/index.ts'
import type { Type } from './postgres-types.ts'
import { nastySettings, ValuesTable } from './postgres-values.ts'
import type { Random } from './random.ts'

export interface KeyTables {
  readonly type: Type
  readonly roots: ValuesTable
  readonly parts: ValuesTable
  readonly staged: string
}

const ID: Type = { type: 'bigint', make: () => '' }
const NOTE: Type = { type: 'integer', make: () => '' }

/** The POS application: moves values of every type about, in sessions that are set as they like. */
export class PostgresHost {
  readonly things: ValuesTable
  readonly keys: readonly KeyTables[]
  private readonly types: readonly Type[]

  constructor(types: readonly Type[]) {
    this.types = types
    this.things = new ValuesTable('things', [['id', ID], ...types.map((type, at) => [`c${at}`, type] as const)])
    this.keys = types
      .filter(({ key }) => key)
      .map((type, at) => ({
        type,
        roots: new ValuesTable(`k${at}`, [
          ['id', type],
          ['note', NOTE],
        ]),
        parts: new ValuesTable(`p${at}`, [
          ['id', type],
          ['owner', type],
          ['note', NOTE],
        ]),
        staged: `s${at}`,
      }))
  }

  get tables(): string {
    const columns = this.types.map(({ type }, at) => `c${at} ${type}`).join(', ')
    const keys = this.keys.map(
      ({ type: { type }, roots, parts, staged }) => `
        CREATE TABLE ${roots.name} (id ${type} PRIMARY KEY, note integer); CREATE TABLE ${parts.name} (id ${type} PRIMARY KEY, owner ${type}, note integer);
        CREATE INDEX ON ${parts.name} (owner); CREATE TABLE ${staged} (n integer, a ${type}, b ${type})`,
    )
    return `CREATE TABLE things (id bigint PRIMARY KEY, ${columns}); CREATE TABLE staged (n integer, ${columns}); ${keys.join(';')}`
  }

  get publish(): PublishRules<AnyTables> {
    const keys = this.keys.flatMap(({ roots, parts }) => [
      [roots.name, {}],
      [parts.name, { partOf: { [roots.name]: { owner: 'id' } } }],
    ])
    return { things: {}, ...Object.fromEntries(keys) }
  }

  async learn(pool: pg.Pool): Promise<void> {
    for (const table of [this.things, ...this.keys.flatMap(({ roots, parts }) => [roots, parts])]) await table.learn(pool)
  }

  /** Values are made under fixed settings; the host's session, set as it likes, only moves them about. */
  async write(pool: pg.Pool, host: pg.Client, random: Random, keys: readonly KeyTables[], long: number): Promise<void> {
    const columns = this.types.map((_, at) => `c${at}`)
    await stage(pool, random, {
      table: 'staged',
      columns,
      types: this.types,
      rows: random.int(2, 8),
      long,
      nulls: 0.1,
      longest: Number.POSITIVE_INFINITY,
    })
    for (const { type, staged } of keys)
      await stage(pool, random, { table: staged, columns: ['a', 'b'], types: [type, type], rows: 5, long: 0, nulls: 0, longest: LONGEST_KEY })
    const some = random.shuffle(columns).slice(0, 20)
    await host.query('BEGIN; RESET ALL')
    for (const [name, value] of nastySettings(random)) await host.query(`SET ${name} = '${value}'`)
    await host.query(`
      DELETE FROM things WHERE id % ${random.int(1, 3)} = 0;
      INSERT INTO things SELECT n + (SELECT coalesce(max(id), 0) FROM things), ${columns} FROM staged;
      UPDATE things SET ${some.map((name) => `${name} = s.${name}`)} FROM staged s WHERE s.n = things.id % 4`)
    await host.query(keys.map((key) => changeKeys(key, random)).join(';'))
    await host.query('COMMIT')
  }
}

interface Stage {
  readonly table: string
  readonly columns: readonly string[]
  readonly types: readonly Type[]
  readonly rows: number
  /** How long the first row's texts are made instead; 0 for as it comes. */
  readonly long: number
  /** How likely a NULL is. */
  readonly nulls: number
  readonly longest: number
}

async function stage(pool: pg.Pool, random: Random, { table, columns, types, rows, long, nulls, longest }: Stage): Promise<void> {
  const values = types.map(({ type, make }) =>
    Array.from({ length: rows }, (_, n) => {
      if (long > 0 && n === 0 && type === 'text') return 'ä'.repeat(long)
      return random.chance(nulls) ? null : drawn(random, make, longest)
    }),
  )
  const casts = columns.map((name, at) => `${name}::${types[at]?.type}`)
  const arrays = columns.map((_, at) => `$${at + 1}::text[]`)
  await pool.query(`TRUNCATE ${table}`)
  await pool.query(`INSERT INTO ${table} SELECT n, ${casts} FROM unnest(${arrays}) WITH ORDINALITY AS u(${columns}, n)`, values)
}

/** An index holds 2,704 bytes a row, and central's the key as JSON text. */
const LONGEST_KEY = 400

function drawn(random: Random, make: Type['make'], longest: number): string {
  for (;;) {
    const value = make(random)
    if (value.length <= longest) return value
  }
}

/** A key is inserted, changed, removed and used again; so is a part's, and what it refers to. */
function changeKeys({ type: { alike }, roots: { name: k }, parts: { name: p }, staged: s }: KeyTables, random: Random): string {
  const [one, other] = [`(SELECT a FROM ${s} WHERE n = ${random.int(1, 5)})`, `(SELECT b FROM ${s} WHERE n = ${random.int(1, 5)})`]
  return `
    INSERT INTO ${k} SELECT DISTINCT ON (a) a, 1 FROM ${s} ON CONFLICT (id) DO UPDATE SET note = ${k}.note + 1;
    INSERT INTO ${p} SELECT DISTINCT ON (b) b, a, 1 FROM ${s} ON CONFLICT (id) DO UPDATE SET owner = excluded.owner;
    UPDATE ${k} SET note = note + 1 WHERE id IN (SELECT a FROM ${s} WHERE n % 2 = 0);
    UPDATE ${k} SET id = ${other} WHERE id = ${one} AND NOT EXISTS (SELECT FROM ${k} WHERE id = ${other});
    UPDATE ${p} SET id = ${one} WHERE id = ${other} AND NOT EXISTS (SELECT FROM ${p} WHERE id = ${one});
    ${alike === undefined ? '' : `UPDATE ${k} SET id = ${alike} WHERE (${alike}) = id AND note % 2 = ${random.int(0, 1)}; UPDATE ${p} SET id = ${alike} WHERE (${alike}) = id`};
    DELETE FROM ${k} WHERE id IN (SELECT a FROM ${s} WHERE n = 3);
    DELETE FROM ${p} WHERE id IN (SELECT b FROM ${s} WHERE n = 4)`
}
