import { JetStreamApiError, JetStreamError } from '@nats-io/jetstream'
import { errors } from '@nats-io/transport-node'
import { messageOf, TillsyncError } from '../errors.ts'

/** What JetStream says where bounds or disks are full; numbers from the server's errors.json: account, insufficient, storage, memory, store failed. */
const FULL = [10_002, 10_023, 10_028, 10_047, 10_077]
const MESSAGE_EXCEEDS_MAXIMUM = 10_054

/** What the client threw, as the error that tells what to do. */
export function natsError(thrown: unknown, doing: string): TillsyncError {
  if (thrown instanceof TillsyncError) return thrown
  const cause = chainOf(thrown).find(isTelling) ?? thrown
  const message = `${doing}: ${messageOf(cause)}`
  if (cause instanceof errors.PermissionViolationError) {
    const { operation, subject } = cause
    const hint =
      'The user may use its own subjects only. Are location and register those of the account, and is the configuration of the server up to date?'
    return new TillsyncError('ERR_CREDENTIAL', message, { hint, context: { operation, subject }, cause: thrown })
  }
  if (cause instanceof errors.AuthorizationError || cause instanceof errors.UserAuthenticationExpiredError) {
    return new TillsyncError('ERR_CREDENTIAL', message, {
      hint: 'Are user and password, or the seed, those of the server’s configuration?',
      cause: thrown,
    })
  }
  if (cause instanceof JetStreamApiError) {
    const context = { natsCode: cause.code }
    if (FULL.includes(cause.code)) {
      const hint = 'It goes on when the other side has fetched what lies there. Do central’s workers run? See docs/nats.md for the sizes.'
      return new TillsyncError('ERR_MAILBOX_FULL', message, { retryable: true, hint, context, cause: thrown })
    }
    if (cause.code === MESSAGE_EXCEEDS_MAXIMUM) return tooLarge(message, context, thrown)
    return new TillsyncError('ERR_LINK', message, { retryable: true, hint: PROVISION, context, cause: thrown })
  }
  const isNotThere = [errors.NoRespondersError, errors.TimeoutError, JetStreamError].some((type) => cause instanceof type)
  const hint = isNotThere ? PROVISION : undefined
  return new TillsyncError('ERR_LINK', message, { retryable: true, hint, cause: thrown })
}

export function tooLarge(message: string, context: Readonly<Record<string, unknown>>, cause?: unknown): TillsyncError {
  return new TillsyncError('ERR_TOO_LARGE', message, { hint: 'Raise max_payload in the configuration of the NATS server.', context, cause })
}

const PROVISION = 'Where it lasts: has provisionNats() been run for this register, and is JetStream enabled?'

/** The client wraps what it knows. */
function chainOf(thrown: unknown): readonly unknown[] {
  const chain: unknown[] = []
  for (let one = thrown; one instanceof Error && chain.length < 8; one = one.cause) chain.push(one)
  return chain
}

function isTelling(error: unknown): boolean {
  return [
    errors.PermissionViolationError,
    errors.AuthorizationError,
    errors.UserAuthenticationExpiredError,
    errors.NoRespondersError,
    JetStreamApiError,
  ].some((type) => error instanceof type)
}
