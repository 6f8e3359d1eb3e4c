import type { Condition, RootRules } from '../hosts/rules.ts'

/** What happens in a case, as plain data: each step says all that it needs, so that any of them can be left out. */
export type Step =
  /** A statement of the host on one of its connections; on the twin too. */
  | { readonly do: 'sql'; readonly on: number; readonly sql: string }
  /** The host's DDL, with the library's triggers out of the way. */
  | { readonly do: 'migrate'; readonly sql: readonly string[] }
  /** Seals; looks at everything where nothing else goes on. */
  | { readonly do: 'seal' }
  /** Others have their turn: what was begun in the background goes on. */
  | { readonly do: 'turn' }
  | { readonly do: 'export'; readonly table: string; readonly which: Condition | undefined }
  | { readonly do: 'reseal'; readonly table: string }
  /** The library's process ends. */
  | { readonly do: 'stop' }
  /** Another one begins, with these rules; `start`: and seals by itself. */
  | { readonly do: 'restart'; readonly rules: readonly RootRules[]; readonly start: boolean }

export interface Case {
  /** Set on each of the host's connections. Foreign keys are not switched while it works. */
  readonly pragmas: readonly string[]
  /** The host's tables, indexes, triggers and first rows. */
  readonly schema: readonly string[]
  readonly rules: readonly RootRules[]
  /** Which connection is the library's: one of its own; one of its own that knows the host's; the host's. */
  readonly library: 'own' | 'named' | 'shared'
  /** Whether another replica of the same till seals at the same time. */
  readonly twoCollectors: boolean
  readonly connections: number
  readonly steps: readonly Step[]
}

export function storyOf({ steps, ...rest }: Case): string {
  const { schema, rules, pragmas, ...settings } = rest
  const told = steps.map((step) => {
    const { do: what, ...more } = step
    return `  ${what === 'sql' ? `${'on' in step ? step.on : ''}: ${'sql' in step ? step.sql : ''}` : `${what} ${JSON.stringify(more)}`}`
  })
  return [JSON.stringify(settings), ...pragmas, ...schema.map((sql) => `  ${sql};`), `rules ${JSON.stringify(rules)}`, ...told].join('\n')
}
