import { TillsyncError } from './errors.ts'

export function unknownToken(): TillsyncError {
  return new TillsyncError('ERR_CREDENTIAL', 'The token is not known', {
    hint: "A register's token comes from central's registers.add() or rotate().",
  })
}

export function unknownRegister(): TillsyncError {
  return new TillsyncError('ERR_CREDENTIAL', 'No token of the register is valid', {
    hint: "central's registers.add() makes a register known, rotate() brings back a revoked one.",
  })
}
