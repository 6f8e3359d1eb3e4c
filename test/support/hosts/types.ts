import type { Random } from '../random.ts'
import type { Column, DialectName, Kind, Schema } from './model.ts'

/** What a schema on PostgreSQL may use beside its tables. */
export const POSTGRES_TYPES = [
  `CREATE TYPE size AS ENUM ('small', 'big one', 'x,y')`,
  'CREATE DOMAIN positive AS integer CHECK (VALUE > 0)',
  `CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
]

/** Kinds that a key may have; the first ones are what most hosts use. */
const KEYS: Readonly<Record<DialectName, readonly Kind[]>> = {
  sqlite: ['integer', 'integer', 'text', 'text', 'real', 'numeric', 'any', 'blob'],
  postgres: ['integer', 'integer', 'text', 'text', 'numeric', 'real', 'uuid', 'date', 'timestamp', 'enum', 'domain', 'blob'],
}
const PAYLOAD: Readonly<Record<DialectName, readonly Kind[]>> = {
  sqlite: ['integer', 'integer', 'text', 'text', 'real', 'numeric', 'any', 'blob', 'boolean'],
  postgres: [
    'integer',
    'integer',
    'text',
    'text',
    'real',
    'numeric',
    'blob',
    'boolean',
    'uuid',
    'date',
    'timestamp',
    'json',
    'array',
    'enum',
    'domain',
  ],
}
const SQLITE_TYPES: Readonly<Partial<Record<Kind, readonly string[]>>> = {
  integer: ['INTEGER', 'INT', 'BIGINT'],
  text: ['TEXT', 'VARCHAR(20)'],
  status: ['TEXT'],
  real: ['REAL', 'DOUBLE PRECISION', 'FLOAT'],
  numeric: ['NUMERIC', 'DECIMAL(10,2)'],
  blob: ['BLOB'],
  boolean: ['BOOLEAN'],
  any: [''],
}
const STRICT_TYPES: Readonly<Partial<Record<Kind, string>>> = {
  integer: 'INTEGER',
  text: 'TEXT',
  status: 'TEXT',
  real: 'REAL',
  blob: 'BLOB',
  any: 'ANY',
}
const TYPES: Readonly<Partial<Record<Kind, readonly string[]>>> = {
  integer: ['bigint', 'integer', 'smallint'],
  text: ['text', 'varchar(20)', 'char(5)'],
  status: ['text'],
  real: ['double precision', 'real'],
  numeric: ['numeric', 'numeric(10,2)'],
  blob: ['bytea'],
  boolean: ['boolean'],
  uuid: ['uuid'],
  date: ['date'],
  timestamp: ['timestamptz', 'timestamp'],
  json: ['json', 'jsonb'],
  array: ['integer[]'],
  enum: ['size'],
  domain: ['positive'],
}

export function keyKind(random: Random, schema: Schema): Kind {
  const kinds = KEYS[schema.dialect]
  return random.chance(0.75) ? random.pick(kinds.slice(0, 4)) : random.pick(kinds)
}

export function payloadKind(random: Random, schema: Schema): Kind {
  return random.pick(PAYLOAD[schema.dialect])
}

export function isStrictKind(kind: Kind): boolean {
  return STRICT_TYPES[kind] !== undefined
}

/** The type of a column that refers to one of this type, so that equal values are written alike. `ANY` keeps them as they are in a STRICT table only. */
export function referringType(type: string, kind: Kind, strict: boolean): string {
  if (strict) return STRICT_TYPES[kind] ?? type
  return type === 'ANY' ? '' : type.replace(/serial$/, 'int')
}

/** How a column of a kind is declared; a STRICT table knows fewer types. */
export function typeOf(random: Random, schema: Schema, kind: Kind, strict: boolean): Pick<Column, 'kind' | 'type' | 'collation' | 'strict'> {
  if (schema.dialect === 'postgres') {
    const type = random.pick(TYPES[kind] ?? ['text'])
    const collation = kind === 'text' ? random.pick([undefined, undefined, 'C', 'caseless', 'und-x-icu']) : undefined
    return { kind, type, collation }
  }
  const known = !strict || STRICT_TYPES[kind] !== undefined ? kind : 'integer'
  const type = strict ? (STRICT_TYPES[known] as string) : random.pick(SQLITE_TYPES[known] ?? [''])
  const collation = known === 'text' ? random.pick([undefined, undefined, 'NOCASE', 'RTRIM']) : undefined
  return { kind: known, type, collation, strict }
}
