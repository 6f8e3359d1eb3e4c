import type { HostColumn } from '../host-table.ts'

/** A cast to a type with a length would cut in silence; to the type itself, the assignment to the column says what does not fit. */
export function castOf({ base, type }: HostColumn): string {
  const plain = base ?? type
  if (plain === 'character') return 'bpchar'
  return plain === 'bit' ? '"bit"' : plain
}
