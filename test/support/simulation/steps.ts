/** What becomes of a message: `cut`: its answer is lost; `kept`: it arrives much later, if ever; `copied`: a copy of it does; `twice`: two at once; `stale`: answered by an earlier answer; `overtaken`: before it arrives, another process of the till sells, sends and is answered, `overtaken late`: before its answer arrives. */
export type Fate = 'ok' | 'lost' | 'cut' | 'kept' | 'copied' | 'twice' | 'stale' | 'overtaken' | 'overtaken late'

/** What is done at a till, by the number of the register and of its copy; both are taken modulo how many there are. */
interface At {
  readonly register: number
  readonly copy: number
}

/** What a cashier does; all chance in it follows from the seed. */
export const SALES = ['sell', 'sell large', 'change', 'void', 'delete', 'reuse', 'enter again'] as const
/** What is done at a till, or to its disk. `forget`: central was silent for so long that what it has not acknowledged is pruned too. `another`: another database takes the place of this one, and the operator says so at central. */
export const CARE = ['seal', 'export', 'reseal', 'prune', 'forget', 'backup', 'clone', 'restart', 'another', 'keep'] as const
/** `central prune`: what it need not tell any more it forgets. `replay`: what is archived goes through the handlers again, and nothing comes of it; `refill`: head office's copies are lost before. */
export const OFFICE = ['central backup', 'central restart', 'central prune', 'replay', 'refill'] as const

/** What happens in a schedule, as plain data: each step says all that it needs, so that any of them can be left out. */
export type Step =
  | (At & { readonly do: (typeof SALES)[number]; readonly seed: number })
  | (At & { readonly do: (typeof CARE)[number] })
  /** A till enters, changes or takes back orders; all chance in it follows from the seed. */
  | (At & { readonly do: 'order'; readonly seed: number })
  /** Until nothing is left, or a message fails. Those beyond the fates that are named arrive. */
  | (At & { readonly do: 'exchange'; readonly fates: readonly Fate[] })
  /** The process ends within an exchange, before its transaction of this number. */
  | (At & { readonly do: 'crash'; readonly fates: readonly Fate[]; readonly writes: number })
  | (At & { readonly do: 'restore'; readonly backup: number })
  /** Central asks what the till has published; the till answers when it speaks. */
  | (At & { readonly do: 'compare'; readonly repair: boolean })
  /** The till's clock is set. */
  | (At & { readonly do: 'jump'; readonly ms: number })
  /** A till is to have other offers from now on. */
  | (At & { readonly do: 'regroup'; readonly group: string })
  | { readonly do: 'central jump'; readonly ms: number }
  /** Head office changes what tills are to have; all chance in it follows from the seed. */
  | { readonly do: 'publish'; readonly seed: number }
  | { readonly do: 'deliver'; readonly letter: number }
  | { readonly do: 'central restore'; readonly backup: number }
  | { readonly do: (typeof OFFICE)[number] }

export interface Schedule {
  readonly registers: readonly ('sqlite' | 'postgres')[]
  /** Whether a column tells sales apart that were sold under the same key. */
  readonly identity: boolean
  readonly recordsPerRun: number
  /** Whether central is forgotten that was silent for too long. */
  readonly forgets?: boolean
  /** Whether messages hold so little that large sales come in frames. */
  readonly frames?: boolean
  /** Whether the registers have mailboxes instead of links. */
  readonly mailboxes?: boolean
  /** Whether head office starts the exchanges. */
  readonly pulled?: boolean
  /** Whether the registers get what head office publishes. */
  readonly subscribes?: boolean
  /** Whether central keeps no version that a later one has replaced for longer than it must. */
  readonly prunesArchive?: boolean
  /** Whether head office has two processes. */
  readonly double?: boolean
  /** Whether in the end the mapping is mended, and mended again. */
  readonly mended?: boolean
  readonly steps: readonly Step[]
  /** Which copy of each register goes on in the end. */
  readonly last: number
}

export function storyOf({ steps, ...settings }: Schedule): string {
  const told = steps.map(({ do: what, ...more }) => `  ${what} ${JSON.stringify(more)}`)
  return [JSON.stringify(settings), ...told].join('\n')
}
