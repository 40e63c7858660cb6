import torch
from matmul_course.checks import matmul_shape, operands
from matmul_course.ladder import rung
@rung("einsum", takes="torch")
@operands("torch")
def matmul_einsum(a,b):
    matmul_shape(a,b)
    return torch.einsum('ik,kj->ij',a,b)
