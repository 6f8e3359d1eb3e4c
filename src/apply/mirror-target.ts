import { TillsyncError } from '../errors.ts'
import type { MirrorTarget } from '../mirroring.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { ownOf } from '../record.ts'
import type { Work } from '../work.ts'
import type { PlainMirrorOptions } from './mirror-options.ts'

/** The tables of these names. @throws ERR_UNKNOWN_TABLE, ERR_NO_KEY */
export function* readTargets(database: ApplyingDatabase, names: readonly string[]): Work<ReadonlyMap<string, MirrorTarget>> {
  const targets = yield* database.mirroring.targets(names)
  for (const name of names) checkTarget(targets.get(name), name)
  return targets
}

/** @throws ERR_UNKNOWN_TABLE, ERR_NO_KEY */
export function checkTarget(table: MirrorTarget | undefined, name: string): MirrorTarget {
  if (table === undefined) {
    throw new TillsyncError('ERR_UNKNOWN_TABLE', `mirror() has no table \`${name}\` to write to`, {
      hint: 'Create it, with a primary key, or name another one: mirror({ rename: { table } }).',
      context: { table: name },
    })
  }
  if (table.key.length > 0) return table
  throw new TillsyncError('ERR_NO_KEY', `mirror() can't tell the records of \`${name}\` apart: it has no primary key`, {
    hint: 'Give it the primary key that its records have where they come from.',
    context: { table: name },
  })
}

/** Whether a mirror's options fit its table. @throws ERR_RULE, ERR_UNKNOWN_COLUMN */
export function checkOptions(table: MirrorTarget, { only = [], except = [], rename, origin: filled }: PlainMirrorOptions): void {
  const origin: readonly string[] = filled ?? []
  for (const column of origin) checkOrigin(table, column)
  const nameOf = (sent: string) => ownOf(rename?.columns, sent) ?? sent
  const unknown = [...only, ...Object.keys(rename?.columns ?? {})].map(nameOf).find((name) => !table.columns.some((column) => column.name === name))
  if (unknown !== undefined) {
    throw new TillsyncError('ERR_UNKNOWN_COLUMN', `\`${table.name}\` has no column \`${unknown}\`, which mirror() is to write`, {
      hint: `Its columns: ${table.columns.map(({ name }) => name).join(', ')}.`,
      context: { table: table.name, column: unknown },
    })
  }
  const key = except.find((name) => table.key.includes(nameOf(name)) && !origin.includes(nameOf(name)))
  if (key === undefined) return
  throw new TillsyncError('ERR_RULE', `\`except\` leaves out \`${key}\`, a column of the primary key of \`${table.name}\``, {
    hint: 'By the key it is known which row a record is.',
    context: { table: table.name, column: key },
  })
}

function checkOrigin(table: MirrorTarget, column: string): void {
  if (table.key.includes(column)) return
  const there = table.columns.some(({ name }) => name === column)
  throw new TillsyncError(there ? 'ERR_RULE' : 'ERR_UNKNOWN_COLUMN', `\`${column}\` is no column of the primary key of \`${table.name}\``, {
    hint: "With `origin`, 'location' and 'register' are part of the primary key, so that registers that number alike stay apart.",
    context: { table: table.name, column },
  })
}
