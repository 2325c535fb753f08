#include "textflag.h"

// The child shares its parent's memory and stack, and the parent is suspended
// until it executes its program or ends. So it uses registers only.
//
// func cloneScript(args *cloneArgs, size uintptr, calls *call, ncalls uintptr, execs *call, nexecs uintptr, res *outcome) (r uintptr)
TEXT ·cloneScript(SB),NOSPLIT,$0-64
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	calls+16(FP), R12
	MOVQ	ncalls+24(FP), R13
	MOVQ	execs+32(FP), BX
	MOVQ	nexecs+40(FP), R15
	MOVQ	res+48(FP), R14
	MOVQ	$435, AX // clone3
	SYSCALL
	TESTQ	AX, AX
	JZ	next
	MOVQ	AX, r+56(FP)
	RET

next:
	TESTQ	R13, R13
	JZ	exec
	MOVQ	0(R12), AX
	MOVQ	8(R12), DI
	MOVQ	16(R12), SI
	MOVQ	24(R12), DX
	MOVQ	32(R12), R10
	MOVQ	40(R12), R8
	MOVQ	48(R12), R9
	SYSCALL
	CMPQ	AX, $-4095
	JCS	done
	CMPQ	56(R12), $0 // call.mark: may fail
	JNE	done
	NEGQ	AX
	MOVQ	R13, 0(R14) // outcome.left
	MOVQ	AX, 8(R14)  // outcome.errno
	JMP	exit

done:
	ADDQ	$64, R12
	DECQ	R13
	JMP	next

exec:
	TESTQ	R15, R15
	JZ	failed
	MOVQ	0(BX), AX
	MOVQ	8(BX), DI
	MOVQ	16(BX), SI
	MOVQ	24(BX), DX
	MOVQ	32(BX), R10
	MOVQ	40(BX), R8
	SYSCALL
	NEGQ	AX
	MOVQ	AX, 56(BX) // call.mark: why not
	ADDQ	$64, BX
	DECQ	R15
	CMPQ	AX, $2 // ENOENT
	JEQ	exec
	CMPQ	AX, $20 // ENOTDIR
	JEQ	exec
	CMPQ	AX, $13 // EACCES
	JEQ	exec

failed:
	MOVQ	$-1, 0(R14)

exit:
	MOVQ	$231, AX // exit_group
	MOVQ	$254, DI
	SYSCALL
	JMP	exit
