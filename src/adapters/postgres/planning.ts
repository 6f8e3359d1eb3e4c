/**
 * How statements are planned while mirrors write. PostgreSQL checks a foreign key by a plan that the session keeps: one that was made when the table that is referred to
 * was known to be empty reads all of it for each row, however large it has become, until somebody analyses it. All that is asked for there is asked for by a key. Where no
 * index serves, a plan without one costs nominally so much that it would be compiled.
 */
export const BY_INDEX: Readonly<Record<string, string>> = { enable_seqscan: 'off', jit: 'off' }

const each = (as: (value: string) => string) =>
  Object.entries(BY_INDEX)
    .map(([name, value]) => `SET LOCAL ${name} ${as(value)}`)
    .join('; ')

/** Statements of the host's are planned as ever, and the library's behind them as before. */
export const PLAN_AS_EVER = each(() => 'TO DEFAULT')
export const PLAN_BY_INDEX = each((value) => `= '${value}'`)
