#include "textflag.h"

// See script_amd64.s.
//
// func cloneScript(args *cloneArgs, size uintptr, calls *call, ncalls uintptr, execs *call, nexecs uintptr, res *outcome) (r uintptr)
TEXT ·cloneScript(SB),NOSPLIT,$0-64
	MOVD	args+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	calls+16(FP), R19
	MOVD	ncalls+24(FP), R20
	MOVD	execs+32(FP), R21
	MOVD	nexecs+40(FP), R22
	MOVD	res+48(FP), R23
	MOVD	$435, R8 // clone3
	SVC
	CBZ	R0, next
	MOVD	R0, r+56(FP)
	RET

next:
	CBZ	R20, exec
	MOVD	0(R19), R8
	MOVD	8(R19), R0
	MOVD	16(R19), R1
	MOVD	24(R19), R2
	MOVD	32(R19), R3
	MOVD	40(R19), R4
	MOVD	48(R19), R5
	SVC
	CMN	$4095, R0
	BCC	done
	MOVD	56(R19), R6 // call.mark: may fail
	CBNZ	R6, done
	NEG	R0, R0
	MOVD	R20, 0(R23) // outcome.left
	MOVD	R0, 8(R23)  // outcome.errno
	B	exit

done:
	ADD	$64, R19
	SUB	$1, R20
	B	next

exec:
	CBZ	R22, failed
	MOVD	0(R21), R8
	MOVD	8(R21), R0
	MOVD	16(R21), R1
	MOVD	24(R21), R2
	MOVD	32(R21), R3
	MOVD	40(R21), R4
	SVC
	NEG	R0, R0
	MOVD	R0, 56(R21) // call.mark: why not
	ADD	$64, R21
	SUB	$1, R22
	CMP	$2, R0 // ENOENT
	BEQ	exec
	CMP	$20, R0 // ENOTDIR
	BEQ	exec
	CMP	$13, R0 // EACCES
	BEQ	exec

failed:
	MOVD	$-1, R0
	MOVD	R0, 0(R23)

exit:
	MOVD	$94, R8 // exit_group
	MOVD	$254, R0
	SVC
	B	exit
