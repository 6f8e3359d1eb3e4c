/** This library's, as package.json says it; a register tells central. */
export const VERSION = '0.1.0'
