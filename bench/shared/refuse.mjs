// Wrong usage of a bench, in the form of the project's errors.

/** @returns what ends the process with exit code 2, a fact and what to do */
export const refuseIn = (bench) => (fact, hint) => {
  console.error(`error: ${bench}: ${fact}\nhint: ${hint}`);
  process.exit(2);
};
