"""The neural correlation function and its KKT points."""

from .correlation import ncf as ncf, ncf_gradient as ncf_gradient
