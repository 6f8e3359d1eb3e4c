import { setTimeout as sleep } from 'node:timers/promises'
import { count } from './display.ts'
import type { Label, Listed } from './messages.ts'
import type { Scene } from './scene.ts'
import { type Facts, readFacts, readLabels, type Telling, tellingsBetween, tellingsOf } from './tellings.ts'
import type { TillActor } from './till-actor.ts'

/** What the till listed for its operator on one occasion, and what was due by head office's data. */
export interface Told {
  readonly register: string
  readonly due: readonly Telling[]
  readonly listed: readonly Telling[]
  readonly labels: readonly Label[]
  /** Due, and not listed like that. */
  readonly missing: readonly string[]
  /** Listed, and not due. */
  readonly tooMuch: readonly string[]
}

interface Wanted {
  readonly till: TillActor
  readonly due: readonly Telling[]
  /** The labels of all that the shop has. */
  readonly shelves: ReadonlyMap<string, string>
}

const PATIENCE_MS = 30_000
const LOOK_MS = 50
const MOST_NAMED = 4

/** The operators of the tills, who print shelf labels and acknowledge what they were told. */
export class Operators {
  readonly told: Told[] = []
  private readonly scene: Scene
  /** What each was told so far. */
  private readonly known = new Map<TillActor, Facts>()

  constructor(scene: Scene) {
    this.scene = scene
  }

  /** Each till lists its notices, and its operator acknowledges them. What is due is waited for, but not for ever: what is missing is said by the proof. */
  async look(): Promise<readonly Told[]> {
    const { books, calendar, tills } = this.scene
    const today = calendar.day()
    const wanted: Wanted[] = []
    for (const till of tills) {
      const facts = await readFacts(books, till, today)
      wanted.push({ till, due: tellingsBetween(this.known.get(till) ?? new Map(), facts), shelves: await readLabels(books, till, today) })
      this.known.set(till, facts)
    }
    const told = await Promise.all(wanted.map((one) => this.lookAt(one)))
    this.told.push(...told)
    return told
  }

  private async lookAt(wanted: Wanted): Promise<Told> {
    const { till } = wanted
    const began = performance.now()
    for (;;) {
      const listed = await this.list(till)
      const told = compare(wanted, listed)
      if (told.missing.length + told.tooMuch.length === 0 || performance.now() - began > PATIENCE_MS) {
        till.acknowledge(listed.notices.map(({ id }) => id))
        await this.scene.until(() => till.acknowledged)
        return told
      }
      await sleep(LOOK_MS)
    }
  }

  private async list(till: TillActor): Promise<Listed> {
    till.listNotices(this.scene.calendar.day())
    await this.scene.until(() => till.listed !== undefined)
    return till.listed as unknown as Listed
  }
}

/** How many labels are to be printed where, and one of them. */
export function labelsInWords(told: readonly Told[], scene: Scene): string {
  const all = told.flatMap(({ labels }) => labels)
  const [first] = all
  const tills = told.filter(({ labels }) => labels.length > 0)
  const where = tills.map(({ register, labels }) => `${scene.tills.find((till) => till.register === register)?.name}: ${labels.length}`)
  return first === undefined
    ? 'no shelf label to print'
    : `${count(all.length, 'shelf label')} to print (${where.length > MOST_NAMED ? count(where.length, 'till') : where.join(', ')}), such as ${first.description} at ${first.unitPrice}`
}

function compare({ till, due, shelves }: Wanted, { notices, labels }: Listed): Told {
  const listed = notices.flatMap(tellingsOf)
  const items = new Set(due.filter(({ kind }) => !kind.startsWith('internal_orders')).map(({ record }) => record.at(-1) ?? ''))
  const wanted = [...due.map(textOf), ...[...items].filter((item) => shelves.has(item)).map((item) => `label ${shelves.get(item)}`)]
  const found = [...listed.map(textOf), ...labels.map(({ description, unitPrice }) => `label ${description} ${unitPrice}`)]
  return { register: till.register, due, listed, labels, missing: without(wanted, found), tooMuch: without(found, wanted) }
}

function textOf({ kind, text }: Telling): string {
  return `${kind}: ${text}`
}

/** Those of the one that are not in the other, each as often as it is there. */
function without(all: readonly string[], others: readonly string[]): readonly string[] {
  const left = Map.groupBy(others, (text) => text)
  return all.filter((text) => left.get(text)?.pop() === undefined)
}
