// Package tests holds what is true of the whole repository: the structure
// tests (who imports whom, what the programs link, how long files grow) and the
// black-box scripts over the real programs.
//
// The structure tests need only Go. The scripts under testdata run as root on
// the real kernel with a real registry and real signing tools; they use the
// built programs and never import rkt's packages. How they are laid out is in
// Documentation/devel/hacking.md.
package tests
