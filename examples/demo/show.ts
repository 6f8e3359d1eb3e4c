import { closeDay, correct, mend, takeBack, takePayment } from './closing-time.ts'
import { count, type Display } from './display.ts'
import { changePrices, dropItem, firstItems, printLabels } from './head-office.ts'
import { Operators } from './operators.ts'
import { confirmOrders } from './orders.ts'
import { announce, beginAndEnd } from './promotion.ts'
import { type Proof, prove } from './proof.ts'
import { Scene, type ShowOptions } from './scene.ts'
import { crash, exportAll, outage, quarantine } from './selling-hours.ts'
import { soldAtLast } from './story.ts'

const SHOW_MS = 100
const PATIENCE_MS = 300_000

/** The director: starts everyone, makes things go wrong, and asks for the proof at the end. */
export class Show {
  private readonly scene: Scene
  private readonly display: Display
  private readonly fail: (error: Error) => void

  constructor(options: ShowOptions, display: Display, stopping: AbortController) {
    this.scene = new Scene(options, display, stopping)
    this.display = display
    this.fail = (error) => stopping.abort(error)
  }

  async run(): Promise<Proof> {
    const { shares, rate } = this.scene.options
    const longest = Math.max(...shares.map((share) => share.length))
    const timeout = setTimeout(() => this.fail(new Error(`Timed out. ${this.scene.where()}`)), PATIENCE_MS + (longest / rate) * 2_000)
    const showing = setInterval(() => this.scene.show(), SHOW_MS)
    try {
      return await this.play()
    } finally {
      clearTimeout(timeout)
      clearInterval(showing)
      this.display.end()
    }
  }

  /** Ends every process that we started. */
  close(): Promise<void> {
    return this.scene.close()
  }

  private async play(): Promise<Proof> {
    const { scene } = this
    await scene.open()
    const operators = new Operators(scene)
    await firstItems(scene, operators)
    const entered = await outage(scene)
    await changePrices(scene)
    await dropItem(scene)
    const ordered = await confirmOrders(scene, entered)
    await announce(scene)
    await printLabels(scene, operators)
    await crash(scene)
    const booked = await quarantine(scene)
    await exportAll(scene)
    await scene.until(() => scene.tills.every((till) => till.view.sold === till.view.total))
    scene.tell('All is sold.', 'The shop closes.')
    await takeBack(scene)
    const closed = await closeDay(scene)
    const firstClosings = await mend(scene)
    await takePayment(scene)
    await correct(scene)
    const sentByNight = await beginAndEnd(scene, operators)
    await operators.look() // everything is acknowledged, so there is nothing to tell
    return this.prove({ booked, ...closed, firstClosings, ordered, told: operators.told, sentByNight })
  }

  private async prove(seen: Proof['seen']): Promise<Proof> {
    const { scene } = this
    const done = await Promise.all(scene.tills.map((till) => scene.perform(till, { type: 'synchronize' })))
    scene.show()
    if (scene.refusals.length > 0)
      scene.tell(`Head office refused ${count(scene.refusals.length, 'message')}; the tills sent them again.`, scene.refusals.at(-1))
    scene.tell(
      'The tills have synchronised; head office is asked what it has.',
      'In plain SQL, and compared with the tills; then the library itself.',
    )
    const sold = soldAtLast(scene.options.shares, scene.story)
    const tills = scene.tills.map(({ register, name, shop, file }, n) => ({ register, name, shop, file, sold: sold[n] ?? [] }))
    const sealed = done.reduce((total, { entries }) => total + entries, 0)
    return prove(scene.books, { tills, story: scene.story, seen, sealed, audited: await scene.audit() })
  }
}
