import type { ComparisonAnswer, ComparisonQuestion } from '../comparison.ts'
import type { Source } from './publisher.ts'

/** What central asks a register, and what it answers: with the next message, as far as it comes. */
export class Inquiry {
  private readonly source: Pick<Source, 'compare'>
  private question: ComparisonQuestion | undefined
  /** The last answer, which is said again where it did not arrive. */
  private answered: { readonly epoch: string; readonly answer: ComparisonAnswer } | undefined
  /** The last question that had its turn. */
  private put: string | undefined

  constructor(source: Pick<Source, 'compare'>) {
    this.source = source
  }

  /** What central asks now. Says whether an answer to it is to be expected at once. */
  hear(question: ComparisonQuestion | undefined): boolean {
    this.question = question
    return question !== undefined && question.id !== this.put
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
