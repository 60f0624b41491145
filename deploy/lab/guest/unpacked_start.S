# The start of a kernel whose image is already unpacked: does what the kernel's own
# arch/x86/boot/compressed does, without the decompression.
#
# The boot loader's 32-bit entry (Documentation/x86/boot.rst, "32-bit boot protocol"): flat
# segments, no paging, interrupts off, %esi = boot_params. It jumps to the first byte here, at
# 1 MiB. The kernel's memory image follows at `image`; its 64-bit entry wants long mode with the
# low memory identity-mapped and %rsi = boot_params.
#
# The assembler is told: image_size (bytes, a multiple of 4), kernel (where it runs), entry.

	.code32
	.globl	_start
_start:
	movl	%esi, %ebp

	# The image's new place lies above the old one and may overlap it: copy from the end.
	movl	$image + image_size - 4, %esi
	movl	$kernel + image_size - 4, %edi
	movl	$image_size / 4, %ecx
	std
	rep movsl
	cld

	lgdt	descriptor_table
	movl	%cr4, %eax
	orl	$0x20, %eax			# PAE
	movl	%eax, %cr4
	movl	$level4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx		# EFER
	rdmsr
	orl	$0x100, %eax			# LME
	wrmsr
	movl	%cr0, %eax
	orl	$0x80000001, %eax		# PG, PE
	movl	%eax, %cr0
	ljmp	$0x10, $long_mode

	.code64
long_mode:
	movl	%ebp, %esi
	movl	$entry, %eax
	jmp	*%rax

	.balign	8
descriptors:
	.quad	0, 0
	.quad	0x00af9a000000ffff		# 0x10: 64-bit code, __BOOT_CS
	.quad	0x00cf92000000ffff		# 0x18: data, __BOOT_DS
descriptor_table:
	.word	descriptor_table - descriptors - 1
	.long	descriptors

	# The first 4 GiB, mapped to themselves in pages of 2 MiB.
	.balign	4096
level4:
	.quad	level3 + 3
	.balign	4096
level3:
	.quad	level2 + 3, level2 + 0x1003, level2 + 0x2003, level2 + 0x3003
	.balign	4096
level2:
	.set	page, 0
	.rept	2048
	.quad	page * 0x200000 + 0x83
	.set	page, page + 1
	.endr
image:
