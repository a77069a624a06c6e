"""Continuous flows: the noise is the solution of an ODE that starts at the data."""

from flows.continuous.cnf import CNF as CNF
from flows.continuous.dynamics import SolveError as SolveError
from flows.continuous.solve import Solver as Solver
from flows.continuous.trace import Trace as Trace
from flows.continuous.vector_fields import BottleneckField as BottleneckField
from flows.continuous.vector_fields import BottleneckMLPField as BottleneckMLPField
from flows.continuous.vector_fields import MLPField as MLPField

version = 2
pace = 2
