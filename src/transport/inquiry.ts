import type { ComparisonAnswer, ComparisonQuestion } from '../comparison.ts'
import type { Source } from './publisher.ts'

/** The message may have been spoilt on the way. */
const MOST_REFUSALS = 2

/** What central asks a register, and what it answers: with the next message, as far as it comes. */
export class Inquiry {
  private readonly source: Pick<Source, 'compare'>
  private question: ComparisonQuestion | undefined
  /** The last answer, which is said again where it did not arrive. */
  private answered: { readonly epoch: string; readonly answer: ComparisonAnswer } | undefined
  /** The last question that had its turn. */
  private put: string | undefined
  /** How often central could not read a message with the answer to that one. */
  private refusals = 0

  constructor(source: Pick<Source, 'compare'>) {
    this.source = source
  }

  /** What central asks now. Says whether an answer to it is to be expected at once. */
  hear(question: ComparisonQuestion | undefined): boolean {
    const isKnown = question !== undefined && question.id === this.put
    if (!isKnown) this.refusals = 0
    this.question = this.refusals < MOST_REFUSALS ? question : undefined
    return question !== undefined && !isKnown
  }

  /** Central could not read what was said last: it is said without an answer, until central asks again. */
  drop(): void {
    if (this.question === undefined) return
    this.question = undefined
    this.refusals++
  }

  async answer(epoch: string): Promise<ComparisonAnswer | undefined> {
    const { question, answered } = this
    if (question === undefined) return undefined
    this.put = question.id
    if (answered?.answer.id === question.id && answered.epoch === epoch) return answered.answer
    const answer = await this.source.compare(epoch, question)
    this.answered = answer && { epoch, answer }
    return answer
  }
}
