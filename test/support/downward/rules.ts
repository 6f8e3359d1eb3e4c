import type { AnyTables, AudienceRules } from '../../../src/index.ts'
import type { RootTable } from './schema.ts'

/** What head office publishes of these tables. */
export function publishOf(roots: readonly RootTable[]): AudienceRules<AnyTables> {
  return Object.fromEntries(
    roots.flatMap((root) => [
      [root.name, ruleOf(root)],
      ...root.parts.map((part) => [
        part.name,
        { partOf: { [root.name]: Object.fromEntries(part.above.map((column, n) => [column.name, root.key[n]?.name])) } },
      ]),
    ]),
  )
}

function ruleOf({ name, key, filter }: RootTable): AudienceRules<AnyTables>[string] {
  const { group, location, links } = filter
  return {
    ...((group || location || links !== undefined) && {
      where: (eb, register) =>
        eb.and([
          ...(group ? [eb('grp', '=', register.attributes.group)] : []),
          ...(location ? [eb('loc', '=', register.location)] : []),
          ...(links === undefined
            ? []
            : [
                eb.exists(
                  key
                    .reduce(
                      (select, column) => select.whereRef(`${links}.${column.name}`, '=', `${name}.${column.name}`),
                      eb.selectFrom(links).select(`${links}.location`),
                    )
                    .where(`${links}.location`, '=', register.location),
                ),
              ]),
        ]),
    }),
    ...(links !== undefined && { dependsOn: { [links]: Object.fromEntries(key.map((column) => [column.name, column.name])) } }),
  }
}
