import { TillsyncError } from '../../src/errors.ts'
import type { RegisterDatabase, WriteOptions } from '../../src/ports.ts'
import type { Work } from '../../src/work.ts'

/** What happens to the transactions of a database. */
export interface Faults {
  /** Asked before each transaction that may write: whether it fails, and if so whether it is lost, or only its end is not heard. */
  next(): 'lost' | 'unheard' | undefined
}

/** The database with transactions that fail as a power cut would have them: nothing of them is there, or all, and nobody knows. */
export function faulty(database: RegisterDatabase, faults: Faults): RegisterDatabase {
  const write = async <T>(work: () => Work<T>, options?: WriteOptions): Promise<T> => {
    const fault = faults.next()
    if (fault === 'lost') throw failure()
    const value = await database.write(work, options)
    if (fault === 'unheard') throw failure()
    return value
  }
  return new Proxy(database, {
    get(target, name) {
      if (name === 'write') return write
      const value = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

function failure(): TillsyncError {
  return new TillsyncError('ERR_DATABASE', 'The power is gone', { retryable: true, hint: 'Only in this test.' })
}
