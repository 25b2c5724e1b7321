from vaefast.engines.cython_cpu.kernels import Worker as Worker
from vaefast.engines.cython_cpu.kernels import count_nonzero as count_nonzero
from vaefast.engines.cython_cpu.kernels import list_nonzero as list_nonzero
from vaefast.engines.cython_cpu.kernels import unit as unit
