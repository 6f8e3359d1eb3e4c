import { closeDay, correct, mend, takeBack, takePayment } from './closing-time.ts'
import { count, type Display } from './display.ts'
import { changePrices, dropItem } from './head-office.ts'
import { type Proof, prove } from './proof.ts'
import { registerName, Scene, type ShowOptions } from './scene.ts'
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
    await outage(scene)
    await changePrices(scene)
    await dropItem(scene)
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
    return this.prove({ booked, ...closed, firstClosings })
  }

  private async prove(seen: Pick<Proof['seen'], 'booked' | 'heldBack' | 'audited' | 'firstClosings'>): Promise<Proof> {
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
    const tills = scene.tills.map((till, n) => ({ register: registerName(n), name: till.name, file: till.file, sold: sold[n] ?? [] }))
    const sealed = done.reduce((total, { entries }) => total + entries, 0)
    return prove(scene.books, { tills, story: scene.story, seen, sealed, audited: await scene.audit() })
  }
}
