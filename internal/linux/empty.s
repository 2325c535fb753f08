// Allows functions without a body, which are linked to package runtime.
